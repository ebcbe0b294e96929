FROM me AS me
