ln -s /etc/passwd d/abs
ln -s nowhere d/dangling
ln -s sub d/ld
ln -s file d/lf
ln -s ../top d/up
