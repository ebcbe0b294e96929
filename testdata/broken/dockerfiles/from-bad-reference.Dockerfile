FROM Base:Upper:twice
