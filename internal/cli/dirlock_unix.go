//go:build linux || darwin

package cli

import (
	"errors"
	"os"
	"syscall"
)

// lockDir keeps other runs out of a folder, which is made, until release is called or the
// process ends, however it does.
func lockDir(dir string) (release func(), err error) {
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return nil, err
	}
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close() // was only read
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, inputf("%s: another run is writing there; wait for it, or give another --dir", dir)
		}
		return func() {}, nil // a file system without locks
	}
	return func() { f.Close() }, nil
}
