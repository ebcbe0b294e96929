ln -s x l1
ln -s d l2
