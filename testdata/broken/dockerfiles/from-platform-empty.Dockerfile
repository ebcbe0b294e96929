FROM --platform= base
