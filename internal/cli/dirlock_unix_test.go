//go:build linux || darwin

package cli

import (
	"path/filepath"
	"strings"
	"testing"
)

func TestLockDir(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	release, err := lockDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := lockDir(dir); err == nil || !strings.Contains(err.Error(), "another run is writing there") {
		t.Errorf("the second lock: %v", err)
	}
	release()
	release, err = lockDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	release()
	if _, err := lockDir(filepath.Join(dir, "file", "\x00")); err == nil {
		t.Error("a folder that cannot be")
	}
}
