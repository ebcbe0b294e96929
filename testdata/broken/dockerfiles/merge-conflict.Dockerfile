FROM scratch
<<<<<<< HEAD
LABEL a=1
=======
LABEL a=2
>>>>>>> topic
