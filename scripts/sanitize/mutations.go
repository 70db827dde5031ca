package main

// mutations has every kind of mistake and every family of kernels.
var mutations = []mutation{}
