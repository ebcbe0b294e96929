FROM base
APT-GET install x
