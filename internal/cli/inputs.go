package cli

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/fidlab/fidlab/data/mnist"
	"github.com/fidlab/fidlab/fid"
	"github.com/fidlab/fidlab/imageio"
	"github.com/fidlab/fidlab/tensor"
)

func init() { imageio.RegisterScheme("mnist", mnist.Source) }

// inputHelp describes INPUT in the help of every command that takes one.
const inputHelp = `INPUT is a folder of images (read recursively), an image list (.txt), a zip, tar
or tar.gz, - (a tar on standard input), images as .npy or .npz (uint8, NHWC),
feature vectors (.npy, [n,d]), statistics (.npz with mu and sigma, or EDM2's
.pkl), MNIST as mnist:train, mnist:test, mnist:test?class=3,
mnist:train?from=1000&n=500, or a generated set as shapes:test?n=1000 (fidlab
data list names the sets, their splits and options). Motions, for motion:test or
with --features motion-enc: a folder, .npz or .npy of rows of 263 numbers.`

// input is what an argument turned out to be: exactly one of the two is set.
type input struct {
	arg   string
	stats *fid.Stats     // statistics or feature vectors
	src   imageio.Source // pictures, still to be read
	found imageio.Found  // what opening the pictures came across
	// motions tells that stats were made of motions just now, with all feature vectors kept.
	motions bool
}

// openInput tells the kinds of input apart: by content, and by name only where
// content cannot (a missing file). Errors are of the input.
func (a *app) openInput(ctx context.Context, arg string, x *extraction) (*input, error) {
	switch strings.ToLower(filepath.Ext(arg)) {
	case ".npz":
		if is, err := hasStats(arg); err != nil {
			return nil, &inputError{err}
		} else if is {
			s, err := fid.ReadStats(arg)
			return &input{arg: arg, stats: s}, err
		}
	case ".pkl":
		s, err := fid.ReadStats(arg)
		return &input{arg: arg, stats: s}, err
	case ".npy":
		if is, err := hasFeatures(arg); err != nil {
			return nil, &inputError{err}
		} else if is {
			s, err := readFeatures(arg)
			return &input{arg: arg, stats: s}, err
		}
	}
	if arg == "-" {
		a.say("reading a tar from standard input")
	}
	src, err := imageio.OpenContext(ctx, arg, imageio.Options{SkipBad: x.skipBad, Labels: x.labels, Stdin: a.env.Stdin})
	if err != nil {
		return nil, err
	}
	in := &input{arg: arg, src: src}
	if f, ok := src.(imageio.Finder); ok {
		in.found = f.Found()
	}
	return in, nil
}

// hasStats tells an archive of statistics from one of images. A missing or
// foreign file is left to imageio, whose errors say more.
func hasStats(path string) (bool, error) {
	if st, err := os.Stat(path); err != nil || !st.Mode().IsRegular() || st.Size() == 0 {
		return false, nil
	}
	z, err := tensor.OpenNPZ(path)
	if err != nil {
		return false, err
	}
	defer z.Close()
	return z.Has("mu") || z.Has("sigma"), nil
}

// hasFeatures tells an array of feature vectors, [n,d], from one of images.
func hasFeatures(path string) (bool, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil || !st.Mode().IsRegular() || st.Size() == 0 {
		return false, err
	}
	r, err := tensor.NewNPYReader(f, st.Size())
	if err != nil {
		return false, err
	}
	return len(r.Shape()) == 2, nil
}

// readFeatures makes statistics of an array of feature vectors, and reads the
// record beside it of how they were made, where there is one.
func readFeatures(path string) (*fid.Stats, error) {
	s, err := fid.ReadFeatures(path, true, 0)
	if err != nil {
		return nil, err
	}
	s.Provenance, err = readRecord(path)
	return s, err
}
