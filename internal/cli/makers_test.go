package cli

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"fmt"
	"image"
	"image/color"
	"image/gif"
	"image/jpeg"
	"image/png"
	"io"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/fidlab/fidlab/tensor"
)

// makers are the commands that sessions make their inputs with.
var makers = map[string]func(ts *testscript.TestScript, neg bool, args []string){
	"exits":       exits,
	"samevalue":   sameValue,
	"images":      makeImages,
	"npz":         makeNPZ,
	"npy":         makeNPY,
	"pack":        makeArchive,
	"cut":         cutFile,
	"spoil":       spoilFile,
	"holds":       holds,
	"recipe":      makeWeights,
	"lpips":       makeLPIPS,
	"tiny":        tiny,
	"interrupted": interrupted,
	"killed":      killed,
}

// settings reads the key=value arguments over the given defaults.
func settings(ts *testscript.TestScript, args []string, def map[string]string) map[string]string {
	for _, a := range args {
		k, v, ok := strings.Cut(a, "=")
		if _, known := def[k]; !ok || !known {
			ts.Fatalf("setting %q: want key=value with a key of %v", a, def)
		}
		def[k] = v
	}
	return def
}

func number(ts *testscript.TestScript, s string) int {
	n, err := strconv.Atoi(s)
	ts.Check(err)
	return n
}

// images DIR [n=4] [size=16x16] [seed=1] [as=png] makes pictures of smooth
// coloured noise that differ by seed; as=same repeats one picture.
func makeImages(ts *testscript.TestScript, _ bool, args []string) {
	o := settings(ts, args[1:], map[string]string{"n": "4", "size": "16x16", "seed": "1", "as": "png"})
	dir := ts.MkAbs(args[0])
	ts.Check(os.MkdirAll(dir, 0o777))
	ws, hs, _ := strings.Cut(o["size"], "x")
	w, h, seed := number(ts, ws), number(ts, hs), number(ts, o["seed"])
	for i := range number(ts, o["n"]) {
		k := i
		if o["as"] == "same" {
			k = 0
		}
		m, as := picture(w, h, uint64(1000*seed+k)), o["as"]
		if as == "same" {
			as = "png"
		}
		var b bytes.Buffer
		ts.Check(encodeAs(&b, m, as))
		ts.Check(os.WriteFile(filepath.Join(dir, fmt.Sprintf("%03d.%s", i, as)), b.Bytes(), 0o666))
	}
}

func encodeAs(w io.Writer, m image.Image, as string) error {
	switch as {
	case "png":
		return png.Encode(w, m)
	case "jpg":
		return jpeg.Encode(w, m, &jpeg.Options{Quality: 90})
	case "gif":
		return gif.Encode(w, m, nil)
	}
	return fmt.Errorf("no picture format %q", as)
}

// picture is a function of its seed: a few waves and hashed noise.
func picture(w, h int, seed uint64) image.Image {
	m := image.NewNRGBA(image.Rect(0, 0, w, h))
	s := seed*0x9e3779b97f4a7c15 + 1
	next := func() float64 {
		s ^= s << 13
		s ^= s >> 7
		s ^= s << 17
		return float64(s>>11) / (1 << 53)
	}
	for range 8 {
		next()
	}
	var a, b, c [3]float64
	for k := range 3 {
		a[k], b[k], c[k] = 6*next(), 6*next(), 60*next()+90
	}
	for y := range h {
		for x := range w {
			var v [3]uint8
			for k := range 3 {
				v[k] = uint8(c[k] + 60*math.Sin(a[k]*float64(x)/8+b[k]*float64(y)/8) + 40*next())
			}
			m.Set(x, y, color.NRGBA{v[0], v[1], v[2], 255})
		}
	}
	return m
}

// npz FILE [d=8] [kind=good] [shift=0] [n=0] writes statistics mu, sigma: good, nan,
// inf, asym (not symmetric), indef (a negative variance), saddle (a negative
// eigenvalue only), object (an array of
// Python objects), nosigma, shape (sigma of another size).
func makeNPZ(ts *testscript.TestScript, _ bool, args []string) {
	o := settings(ts, args[1:], map[string]string{"d": "8", "kind": "good", "shift": "0", "n": "0"})
	d, shift := number(ts, o["d"]), float64(number(ts, o["shift"]))
	mu, sigma := make([]float64, d), make([]float64, d*d)
	for i := range d {
		mu[i] = shift + float64(i)/10
		for j := range d {
			sigma[i*d+j] = math.Pow(0.5, math.Abs(float64(i-j)))
		}
	}
	shape := []int{d, d}
	switch o["kind"] {
	case "good", "nosigma", "object":
	case "nan":
		sigma[d+1] = math.NaN()
	case "inf":
		mu[1] = math.Inf(1)
	case "asym":
		sigma[1] += 0.5
	case "indef":
		sigma[0] = -2
	case "saddle":
		sigma[1], sigma[d] = 3, 3
	case "shape":
		sigma, shape = sigma[:(d-1)*(d-1)], []int{d - 1, d - 1}
	default:
		ts.Fatalf("npz: no kind %q", o["kind"])
	}
	entries := []tensor.NPZEntry{{Name: "mu", Array: tensor.FromF64(mu, d)}}
	if o["kind"] != "nosigma" {
		entries = append(entries, tensor.NPZEntry{Name: "sigma", Array: tensor.FromF64(sigma, shape...)})
	}
	if n := number(ts, o["n"]); n > 0 {
		entries = append(entries, tensor.NPZEntry{Name: "n", Array: tensor.FromI64([]int64{int64(n)})})
	}
	var b bytes.Buffer
	ts.Check(tensor.EncodeNPZ(&b, entries, false))
	if o["kind"] == "object" { // same length, so the header stays whole
		raw := bytes.Replace(b.Bytes(), []byte("'descr': '<f8'"), []byte("'descr': '|O' "), 1)
		b.Reset()
		ts.Check(rezip(&b, raw))
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), b.Bytes(), 0o666))
}

// rezip copies stored members as they lie in raw, so that their checksums are right again.
func rezip(w io.Writer, raw []byte) error {
	r, err := zip.NewReader(bytes.NewReader(raw), int64(len(raw)))
	if err != nil {
		return err
	}
	zw := zip.NewWriter(w)
	for _, f := range r.File {
		from, err := f.DataOffset()
		if err != nil {
			return err
		}
		m, err := zw.CreateHeader(&zip.FileHeader{Name: f.Name, Method: zip.Store})
		if err != nil {
			return err
		}
		if _, err := m.Write(raw[from : from+int64(f.UncompressedSize64)]); err != nil {
			return err
		}
	}
	return zw.Close()
}

// npy FILE SHAPE [kind=f32] [seed=1] writes an array of noise: f32, f64, u8, nan.
func makeNPY(ts *testscript.TestScript, _ bool, args []string) {
	o := settings(ts, args[2:], map[string]string{"kind": "f32", "seed": "1"})
	var shape []int
	n := 1
	for s := range strings.SplitSeq(args[1], "x") {
		shape = append(shape, number(ts, s))
		n *= shape[len(shape)-1]
	}
	v, s := make([]float64, n), uint64(number(ts, o["seed"]))*0x9e3779b97f4a7c15
	for i := range v {
		s ^= s << 13
		s ^= s >> 7
		s ^= s << 17
		v[i] = float64(s>>11) / (1 << 53)
	}
	var a *tensor.Array
	switch o["kind"] {
	case "f64":
		a = tensor.FromF64(v, shape...)
	case "u8":
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(256 * v[i])
		}
		a = tensor.FromU8(b, shape...)
	case "f32", "nan":
		f := make([]float32, n)
		for i := range f {
			f[i] = float32(v[i])
		}
		if o["kind"] == "nan" {
			f[n/2] = float32(math.NaN())
		}
		a = tensor.FromF32(f, shape...)
	default:
		ts.Fatalf("npy: no kind %q", o["kind"])
	}
	ts.Check(tensor.WriteNPYFile(ts.MkAbs(args[0]), a))
}

// pack FILE NAME=PATH... writes a zip, tar or tar.gz of members with exactly these names.
func makeArchive(ts *testscript.TestScript, _ bool, args []string) {
	f, err := os.Create(ts.MkAbs(args[0]))
	ts.Check(err)
	defer f.Close()
	var add func(name string, body []byte) error
	var closers []io.Closer
	switch {
	case strings.HasSuffix(args[0], ".zip"):
		z := zip.NewWriter(f)
		closers = append(closers, z)
		add = func(name string, body []byte) error {
			w, err := z.Create(name)
			if err == nil {
				_, err = w.Write(body)
			}
			return err
		}
	default:
		var w io.Writer = f
		if strings.HasSuffix(args[0], "gz") {
			gz := gzip.NewWriter(f)
			closers, w = append(closers, gz), gz
		}
		t := tar.NewWriter(w)
		closers = append([]io.Closer{t}, closers...)
		add = func(name string, body []byte) error {
			err := t.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(body)), Typeflag: tar.TypeReg})
			if err == nil {
				_, err = t.Write(body)
			}
			return err
		}
	}
	for _, member := range args[1:] {
		name, path, _ := strings.Cut(member, "=")
		ts.Check(add(name, []byte(ts.ReadFile(path))))
	}
	for _, c := range closers {
		ts.Check(c.Close())
	}
}

// cut FILE N keeps the first N bytes of a file; a negative N drops as many from its end.
func cutFile(ts *testscript.TestScript, _ bool, args []string) {
	path, n := ts.MkAbs(args[0]), int64(number(ts, args[1]))
	if n < 0 {
		st, err := os.Stat(path)
		ts.Check(err)
		n += st.Size()
	}
	ts.Check(os.Truncate(path, n))
}

// spoil FILE overwrites some bytes in the middle.
func spoilFile(ts *testscript.TestScript, _ bool, args []string) {
	b := []byte(ts.ReadFile(args[0]))
	copy(b[len(b)/2:], "these bytes are wrong")
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), b, 0o666))
}

// holds DIR [NAME...] fails unless the folder has exactly these entries, hidden
// ones included: a command left nothing else behind.
func holds(ts *testscript.TestScript, _ bool, args []string) {
	var got []string
	list, err := os.ReadDir(ts.MkAbs(args[0]))
	if err != nil && !os.IsNotExist(err) {
		ts.Fatalf("%v", err)
	}
	for _, e := range list {
		if e.Name() != ".tmp" { // TMPDIR, which testscript makes in the first folder
			got = append(got, e.Name())
		}
	}
	want := slices.Clone(args[1:])
	slices.Sort(want)
	if !slices.Equal(got, want) {
		ts.Fatalf("%s holds %q, want %q", args[0], got, want)
	}
}

// firstValue is the first member "value" of a text in JSON.
var firstValue = regexp.MustCompile(`"value":([-+0-9.eE]+)`)

// sameValue FILE FILE compares the first "value" of two texts in JSON, digit by digit.
func sameValue(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: samevalue FILE FILE")
	}
	var got [2]string
	for i, name := range args {
		m := firstValue.FindStringSubmatch(ts.ReadFile(name))
		if m == nil {
			ts.Fatalf("%s has no value", name)
		}
		got[i] = m[1]
	}
	if (got[0] == got[1]) == neg {
		ts.Fatalf("values %s and %s", got[0], got[1])
	}
}
