package tensor

import (
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// Renaming onto a device would replace it for the whole machine when root does it.
func TestWriteAtomicLeavesDevices(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("devices are no files on Windows")
	}
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(os.DevNull, link); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{os.DevNull, link} {
		err := WriteAtomic(path, func(io.Writer) error { return nil }, Overwrite)
		if err == nil || !strings.Contains(err.Error(), "is a device or a pipe") {
			t.Errorf("%s: %v, want a refusal", path, err)
		}
		if st, err := os.Stat(path); err != nil || st.Mode()&os.ModeCharDevice == 0 {
			t.Errorf("%s is no device any more: %v %v", path, st, err)
		}
	}
}
