FROM base
COPY https://example.org/f /
