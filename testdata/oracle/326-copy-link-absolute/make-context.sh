ln -s /d/f l
