FROM base
COPPY f /
