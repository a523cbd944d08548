"""The server as a service of the operating system: launchd's on a Mac, systemd's on Linux."""
