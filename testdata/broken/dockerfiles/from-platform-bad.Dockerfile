FROM --platform=linus/amd64 base
