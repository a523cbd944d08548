# A formula for Homebrew that builds a checkout of this repository. Formulae are read from taps alone:
#
#   brew tap-new local/models
#   cp examples/homebrew/mlx-server.rb "$(brew --repository local/models)/Formula/"
#   HOMEBREW_MLX_SERVER_CHECKOUT="$PWD" brew install --HEAD local/models/mlx-server
#   brew services start mlx-server
class MlxServer < Formula
  desc "Async inference server for MLX models with OpenAI's and Anthropic's APIs"
  head "file://#{ENV.fetch("HOMEBREW_MLX_SERVER_CHECKOUT", Dir.pwd)}", using: :git
  license "MIT"

  depends_on "python@3.13"

  def install
    # MLX needs a backend on Linux; on a Mac it brings Metal's.
    extras = OS.linux? ? "[cpu]" : ""
    system "python3.13", "-m", "venv", libexec
    system libexec/"bin/pip", "install", "#{buildpath}#{extras}"
    bin.install_symlink libexec/"bin/mlx-server"
    generate_completions_from_executable(bin/"mlx-server", shell_parameter_format: :typer)
  end

  service do
    run [opt_bin/"mlx-server", "launch", "--models-dir", var/"mlx-server/models", "--data-dir", var/"mlx-server/data"]
    keep_alive crashed: true
    log_path var/"log/mlx-server.log"
    error_log_path var/"log/mlx-server.log"
  end

  def post_install
    (var/"mlx-server/models").mkpath
    (var/"mlx-server/data").mkpath
  end

  test do
    port = free_port
    server = spawn bin/"mlx-server", "launch", "--model-type", "scripted", "--model-path", "scripted", "--port", port.to_s
    begin
      system "curl", "--fail", "--silent", "--retry", "30", "--retry-delay", "1", "--retry-all-errors",
             "http://127.0.0.1:#{port}/health/ready"
    ensure
      Process.kill "TERM", server
      Process.wait server
    end
  end
end
