package cli

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/fidlab/fidlab/imageio"
)

// FuzzReadTruth: whatever a truth.jsonl holds, no file outside the folder is named.
func FuzzReadTruth(f *testing.F) {
	f.Add([]byte(`{"files":[{"path":"000000.png"}],"truth":{"set":"shapes"}}`))
	f.Add([]byte("{\"files\":[{\"path\":\"../x\"}]}\n"))
	f.Add([]byte("\n\n"))
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, b []byte) {
		if err := os.WriteFile(filepath.Join(dir, truthFile), b, 0o666); err != nil {
			t.Fatal(err)
		}
		lines, err := readTruth(t.Context(), dir)
		var input *inputError
		if err != nil && !errors.As(err, &input) && !errors.Is(err, imageio.ErrInput) {
			t.Fatal(err)
		}
		for _, l := range lines {
			for _, file := range l.Files {
				rel, err := filepath.Rel(dir, filepath.Join(dir, file.Path))
				if err != nil || !filepath.IsLocal(rel) {
					t.Fatalf("%q leaves the folder", file.Path)
				}
			}
		}
	})
}
