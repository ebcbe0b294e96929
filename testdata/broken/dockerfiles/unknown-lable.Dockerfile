FROM base
LABLE a=1
