ln -s real l
ln -s real/f l2
