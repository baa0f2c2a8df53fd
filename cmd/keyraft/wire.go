package main

// wire puts the rooms of the program together.
func wire() deps { return deps{} }
