package main

// mutation is one mistake put into a kernel, and who must find it.
type mutation struct {
	name     string
	file     string // of kernels/
	old, new string // old is there exactly once
	kernels  string // a regexp: the kernels whose recordings show it
	detector string // see mutate
}

var mutations = []mutation{}
