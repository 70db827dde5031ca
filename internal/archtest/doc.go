// Package archtest holds the house to its plan: layers.txt says which package
// may import which, libraries.txt says which package may use which library,
// no file is longer than 500 lines, cgo stays in its rooms, and generated
// files are what their generators print. It has tests only.
package archtest
