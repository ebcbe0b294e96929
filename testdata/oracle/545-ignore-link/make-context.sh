ln -s x l1
ln -s real l2
