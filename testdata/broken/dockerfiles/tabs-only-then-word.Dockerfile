	
nope
