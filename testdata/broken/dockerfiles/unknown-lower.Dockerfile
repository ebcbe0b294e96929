FROM base
runn true
