package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/fidlab/fidlab/data"
	"github.com/fidlab/fidlab/tensor"
)

// readItems lists the items of a folder. It is bare where there is no truth and the set's items are arrays: then
// each array of the folder's .npy is an item, of which all is told that needs no truth.
func readItems(ctx context.Context, s data.Served, dir string) (lines []truthLine, bare bool, err error) {
	_, err = os.Stat(filepath.Join(dir, truthFile))
	if !errors.Is(err, fs.ErrNotExist) {
		lines, err = readTruth(ctx, dir)
		return lines, false, err
	}
	it, err := s.Item(s.Splits()[0], 0)
	if err != nil {
		return nil, false, err
	}
	if len(it.Pictures()) > 0 {
		lines, err = listPictures(ctx, dir)
		return lines, false, err
	}
	lines, err = listArrays(dir)
	return lines, true, err
}

// listArrays reads the .npy of a folder in the order of their names. One of two axes is an item; of more axes, as
// fidlab sample writes samples.npy, the first counts items.
func listArrays(dir string) ([]truthLine, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, &inputError{err}
	}
	var lines []truthLine
	for _, e := range entries {
		if e.IsDir() || strings.HasPrefix(e.Name(), ".") || filepath.Ext(e.Name()) != ".npy" {
			continue
		}
		x, err := tensor.ReadNPY(filepath.Join(dir, e.Name()))
		if err != nil {
			return nil, &inputError{err}
		}
		lines = append(lines, cutArray(e.Name(), x)...)
	}
	if len(lines) == 0 {
		return nil, inputf("%s: no %s and no .npy in it; want a folder of data gen, or of arrays such as samples.npy", dir, truthFile)
	}
	return lines, nil
}

// cutArray are the items of an array: itself, or where it has more than two axes those that the first counts.
func cutArray(name string, x *tensor.Array) (lines []truthLine) {
	if len(x.Shape) < 3 {
		return []truthLine{{Files: []itemFile{{Path: name}}, array: x}}
	}
	v, one := x.F32(), x.Shape[1:]
	if len(one) == 2 {
		one = append([]int{1}, one...)
	}
	n := x.Shape[0]
	for i := range n {
		k, own := len(v)/n, name
		if n > 1 {
			own = fmt.Sprintf("%s[%d]", name, i)
		}
		lines = append(lines, truthLine{Files: []itemFile{{Path: own}}, array: tensor.FromF32(v[i*k:(i+1)*k], one...)})
	}
	return lines
}
