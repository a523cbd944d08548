"""The table of bad input: pictures, sounds and films that can't be looked at."""

from __future__ import annotations

from typing import Any

from support.inputs.bad_input import Bad, messages, user

VISION = "Vision requests are not supported with text-only models. Use a VLM model type instead (--model-type vlm)."
AUDIO = "Audio input is not supported with text-only models."
PART = "messages[0].content[0]"


def shown(param: str, message: str, **part: Any) -> Bad:
    """A chat completion that shows one thing."""
    return messages(param, message, user([part]))


def picture(message: str, url: str) -> Bad:
    """A chat completion that shows what a URL leads to."""
    return shown(PART, message, type="image_url", image_url={"url": url})


def other(role: str) -> Bad:
    """A chat completion in which somebody else shows a picture."""
    part = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    return messages(PART, "only messages of role user or tool", {"role": role, "content": [part]})


MALFORMED_MEDIA = [
    shown(f"{PART}.image_url", "is missing", type="image_url"),
    shown(f"{PART}.image_url", "is missing", type="input_image"),
    shown(f"{PART}.image", "is missing", type="image"),
    shown(f"{PART}.image_url", "got `int`", type="image_url", image_url=5),
    shown(f"{PART}.image_url", "got `array`", type="image_url", image_url=[]),
    shown(f"{PART}.image_url.url", "is missing", type="image_url", image_url={}),
    shown(f"{PART}.image_url.url", "got `null`", type="image_url", image_url={"url": None}),
    shown(f"{PART}.image_url.detail", "auto, low, high", type="image_url", image_url={"url": "", "detail": "max"}),
    shown(f"{PART}.detail", "auto, low, high", type="input_image", image_url="", detail="x" * 500),
    shown(f"{PART}.input_audio", "is missing", type="input_audio"),
    shown(f"{PART}.input_audio.data", "is missing", type="input_audio", input_audio={}),
    shown(f"{PART}.audio_url", "is missing", type="audio_url"),
    shown(f"{PART}.video_url", "is missing", type="video_url"),
    shown(f"{PART}.image_url", "belongs to type 'image_url'", type="text", text="a", image_url={"url": "AAAA"}),
    shown(f"{PART}.source", "belongs to type 'image'", type="text", text="a", source={"type": "url"}),
    shown(f"{PART}.text", "belongs to type 'text'", type="image_url", image_url="AAAA", text="a"),
    shown(f"{PART}.image", "belongs to type 'image'", type="image_url", image_url="AAAA", image="AAAA"),
    shown(f"{PART}.detail", "belongs to type 'image_url'", type="audio_url", audio_url="AAAA", detail="low"),
    shown(f"{PART}.image", "can't both be given", type="image", image="AAAA", source={"type": "url", "url": "a:"}),
    shown(f"{PART}.source.url", "this is no URL", type="image", source={"type": "url", "url": "AAAA"}),
    shown(f"{PART}.source.data", "'base64'", type="image", source={"type": "url", "url": "a:", "data": "AAAA"}),
    shown(f"{PART}.source.type", "is missing", type="image", source={}),
    shown(f"{PART}.source.type", "'base64' and 'url' are", type="image", source={"type": "x" * 500}),
    *map(other, ("system", "developer", "assistant")),
]
"""What no model is asked to look at."""

UNSEEN = [
    shown(PART, AUDIO, type="input_audio", input_audio={"data": ""}),
    shown(PART, VISION, type="image_url", image_url={"url": "data:"}),
    shown(PART, VISION, type="image_url", image_url="https://127.0.0.1/"),
    shown(PART, VISION, type="input_image", image_url="data:image/png;base64,AAAA"),
    shown(PART, VISION, type="image", image="AAAA"),
    shown(PART, VISION, type="video_url", video_url={"url": "AAAA"}),
]
"""What a model that only reads is not shown."""

NO_FILES = [
    shown(f"{PART}.file_id", "there is no file 'file-1'", type="input_image", file_id="file-1"),
    shown(PART, "there is no file 'a'", type="image_url", image_url={"file_id": "a"}),
    shown(PART, "there is no file 'f'", type="image", source={"type": "file", "file_id": "f"}),
    picture("this is no data URL", "data:"),
    picture("this is no data URL", "data:image/png;base64"),
    picture("the file is empty", "data:image/png;base64,"),
    picture("the file is empty", ""),
    picture("nor base64", "data:image/png;base64,AAAAA"),
    picture("nor base64", "data:image/png;base64,AA=A"),
    picture("nor base64", "data:image/png;base64,A*AA"),
    picture("nor base64", "data:image/png;base64,\u00e9AAA"),
    picture("nor base64", "picture.png"),
    picture("nor base64", "/etc/hosts.conf"),
    picture("nor base64", "//example.com/a.png"),
    picture("'text/html' is no type of image", "data:text/html;base64,AAAA"),
    picture("'audio/wav' is no type of image", "data:audio/wav;base64,AAAA"),
    picture("'image/svg' is no type of audio", "data:image/svg;base64,AAAA")._replace(
        body={"messages": [user([{"type": "audio_url", "audio_url": "data:image/svg;base64,AAAA"}])]}
    ),
    picture("only http, https, file and data URLs", "ftp://example.com/a.png"),
    picture("only http, https, file and data URLs", "javascript:alert(1)"),
    picture("reads no file:// URLs", "file:///etc/passwd"),
    picture("no valid URL", "http://"),
    picture("no valid URL", "http://:80/"),
    picture("no valid URL", "http://[::1/"),
    picture("no valid URL", "http://example.com:99999/"),
    picture("no valid URL", "http://example.com:0/"),
    picture("no valid URL", " http://example.com:0/\n"),
    picture("no valid URL", "http://a b/"),
    picture("user's name or password", "http://user:secret@example.com/"),
    picture("more than 8192 characters", "http://example.com/" + "a" * 9000),
    *(
        picture("has no public address", f"http://{host}/")
        for host in (
            "127.0.0.1",
            "127.1",
            "0x7f000001",
            "2130706433",
            "0.0.0.0",
            "10.1.2.3",
            "169.254.169.254",
            "100.64.0.1",
            "224.0.0.1",
            "[::1]",
            "[::]",
            "[::ffff:127.0.0.1]",
            "[::127.0.0.1]",
            "[fe80::1]",
            "[fd00::1]",
            "[64:ff9b::7f00:1]",
            "[2002:7f00:1::]",
            "localhost",
            "nowhere.invalid",
        )
    ),
]
"""What can't be had, for a model that sees."""
