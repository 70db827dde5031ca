package cli

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/fidlab/fidlab/systems"
	"github.com/fidlab/fidlab/tensor"
)

// writeCurve draws the losses in a run's log.csv into curve.png: those of training and the held-out one.
func writeCurve(dir, title string) error {
	f, err := os.Open(filepath.Join(dir, "log.csv"))
	if err != nil {
		return err
	}
	defer f.Close()
	fig, err := systems.LossCurve(f, title)
	if err != nil {
		return fmt.Errorf("%s: %w", f.Name(), err)
	}
	if fig == nil {
		return nil
	}
	return tensor.WriteAtomic(filepath.Join(dir, "curve.png"), fig.WritePNG, tensor.Overwrite)
}
