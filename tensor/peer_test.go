package tensor

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/big"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// The files of testdata are made by scripts/golden/tensors.py with torch,
// NumPy and safetensors; the values are the formulas there.

func testdata(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func wantArray(t *testing.T, arrays map[string]*Array, name string, dt DType, shape []int, value func(i int) float64) {
	t.Helper()
	a := arrays[name]
	if a == nil {
		t.Errorf("no array %q", name)
		return
	}
	if a.DType != dt || !slices.Equal(a.Shape, shape) {
		t.Errorf("%s is %v %v; want %v %v", name, a.DType, a.Shape, dt, shape)
		return
	}
	for i, v := range a.F64() {
		if v != value(i) {
			t.Errorf("%s[%d] is %v; want %v", name, i, v, value(i))
		}
	}
}

func base(i int) float64 { return float64(i)/8 - 1 }

// checkPeer compares the tensors that all three containers have.
func checkPeer(t *testing.T, arrays map[string]*Array) {
	t.Helper()
	quarter := func(i int) float64 { return float64(i) / 4 }
	wantArray(t, arrays, "w", F32, []int{2, 3, 4}, base)
	wantArray(t, arrays, "f64", F64, []int{3}, func(i int) float64 { return float64(i) / 3 })
	wantArray(t, arrays, "half", F16, []int{5}, quarter)
	wantArray(t, arrays, "bf16", BF16, []int{5}, quarter)
	wantArray(t, arrays, "i64", I64, []int{1, 2}, func(i int) float64 { return []float64{-1, 1 << 40}[i] })
	wantArray(t, arrays, "u8", U8, []int{2}, func(i int) float64 { return float64(255 * i) })
	wantArray(t, arrays, "bool", Bool, []int{3}, func(i int) float64 { return float64(1 - i%2) })
	wantArray(t, arrays, "scalar", F32, []int{}, func(int) float64 { return 0.25 })
	wantArray(t, arrays, "empty", F32, []int{0, 3}, nil)
}

// TestSafetensorsOfPeer reads a file that the safetensors package wrote.
func TestSafetensorsOfPeer(t *testing.T) {
	f, err := OpenSafetensors(filepath.Join("testdata", "peer.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	arrays := map[string]*Array{}
	for _, name := range f.Names() {
		if arrays[name], err = f.Read(name); err != nil {
			t.Fatal(err)
		}
	}
	checkPeer(t, arrays)
	if f.Meta["format"] != "pt" {
		t.Errorf("remarks are %v", f.Meta)
	}
}

func TestReadTorch(t *testing.T) {
	for _, name := range []string{"peer_zip.pth", "peer_stream.pth"} {
		arrays, order, err := ReadTorch(filepath.Join("testdata", name))
		if err != nil {
			t.Fatal(err)
		}
		checkPeer(t, arrays)
		wantArray(t, arrays, "transposed", F32, []int{6, 4}, func(i int) float64 { return base(i%4*6 + i/4) })
		wantArray(t, arrays, "slice", F32, []int{4}, func(i int) float64 { return base(i + 3) })
		wantArray(t, arrays, "strided", F32, []int{5}, func(i int) float64 { return base(1 + 5*i) })
		wantArray(t, arrays, "expanded", F32, []int{2, 3}, func(int) float64 { return 7 })
		wantArray(t, arrays, "bn.num_batches_tracked", I64, []int{}, func(int) float64 { return 5 })
		wantArray(t, arrays, "parameter", F32, []int{2}, base)
		if len(order) != 15 || len(arrays) != 15 || order[0] != "w" || order[14] != "parameter" {
			t.Errorf("%s: order is %v", name, order)
		}
	}
	nested, order, err := ReadTorch(filepath.Join("testdata", "nested.pth"))
	if err != nil || !slices.Equal(order, []string{"state_dict.a", "epoch", "lr"}) {
		t.Fatalf("nested: %v, %v", order, err)
	}
	wantArray(t, nested, "state_dict.a", F32, []int{2}, base)
	one, _, err := ReadTorch(filepath.Join("testdata", "one.pt"))
	if err != nil {
		t.Fatal(err)
	}
	wantArray(t, one, "", F32, []int{2, 3}, func(i int) float64 { return float64(i) })
}

// A TorchScript archive is read as what its modules hold, under the names of a state dict.
func TestReadTorchScript(t *testing.T) {
	arrays, _, err := ReadTorch(filepath.Join("testdata", "script.pt"))
	if err != nil {
		t.Fatal(err)
	}
	wantArray(t, arrays, "0.weight", F32, []int{2, 3}, func(i int) float64 { return float64(i)/8 - 1 })
	wantArray(t, arrays, "0.bias", F32, []int{2}, func(i int) float64 { return float64(6+i)/8 - 1 })
	wantArray(t, arrays, "1.0.running_var", F16, []int{2}, func(int) float64 { return 1 })
	whole := testdata(t, "script.pt")
	for n := 0; n < len(whole)-22; n += 7 {
		if _, _, err := DecodeTorch(whole[:n]); err == nil {
			t.Fatalf("the archive cut to %d of %d bytes was read", n, len(whole))
		}
	}
}

func TestReadPickle(t *testing.T) {
	for protocol := range 6 {
		v, err := ReadPickle(filepath.Join("testdata", fmt.Sprintf("stats%d.pkl", protocol)))
		if err != nil {
			t.Fatal(err)
		}
		arrays, order := Flatten(v)
		quarter := func(i int) float64 { return float64(i) / 4 }
		wantArray(t, arrays, "fid.mu", F64, []int{3}, quarter)
		wantArray(t, arrays, "fid.sigma", F64, []int{2, 3}, quarter)
		wantArray(t, arrays, "fd_dinov2.mu", F32, []int{3}, func(i int) float64 { return float64(3+i) / 4 })
		wantArray(t, arrays, "fd_dinov2.sigma", F64, []int{2, 3}, quarter)
		wantArray(t, arrays, "big", F32, []int{2, 3}, quarter)
		wantArray(t, arrays, "num_images", I64, nil, func(int) float64 { return 5 })
		wantArray(t, arrays, "number", F64, nil, func(int) float64 { return 0.125 })
		wantArray(t, arrays, "count", I64, nil, func(int) float64 { return -3 })
		if order[0] != "num_images" || len(order) != 8 {
			t.Errorf("protocol %d: order is %v", protocol, order)
		}
		tuple := v.(*Dict).Get("flags").(*List).Items
		huge := new(big.Int).Lsh(big.NewInt(1), 70)
		want := []any{int64(1), 2.5, "téxt", []byte("by\xfftes"), huge, new(big.Int).Neg(huge)}
		got := tuple[2].([]any)
		if tuple[0] != true || tuple[1] != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("protocol %d: %v; want True, None, %v", protocol, tuple, want)
		}
	}
}

func TestTorchRefuses(t *testing.T) {
	_, _, err := ReadTorch(filepath.Join("testdata", "module.pth"))
	if err == nil || !strings.Contains(err.Error(), `"torch.nn.modules.linear.Linear", which is neither data nor an array`) {
		t.Errorf("a whole module: %v", err)
	}
	zip, stream := testdata(t, "peer_zip.pth"), testdata(t, "peer_stream.pth")
	for n := range stream { // every cut must be an error, never a panic
		if _, _, err := DecodeTorch(stream[:n]); err == nil {
			t.Fatalf("the stream cut to %d of %d bytes was read", n, len(stream))
		}
	}
	for n := 0; n < len(zip)-22; n += 7 {
		if _, _, err := DecodeTorch(zip[:n]); err == nil {
			t.Fatalf("the archive cut to %d of %d bytes was read", n, len(zip))
		}
	}
	if _, _, err := DecodeTorch(testdata(t, "stats4.pkl")); err == nil || !strings.Contains(err.Error(), "not one of torch.save") {
		t.Errorf("a pickle of NumPy: %v", err)
	}
	for from, to := range map[string]string{ // same lengths
		"\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.": "\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x18.",
		"M\xe9\x03.":                         "M\xe8\x03.",
		"little_endianq\x02\x88":             "little_endianq\x02\x89",
		"FloatStorage":                       "FloatStorag_",
	} {
		b := []byte(strings.Replace(string(stream), from, to, 1))
		if string(b) == string(stream) {
			t.Errorf("%q does not occur in the file", from)
		}
		if _, _, err := DecodeTorch(b); err == nil {
			t.Errorf("read with %q for %q", to, from)
		}
	}
}

func TestPickleRefuses(t *testing.T) {
	le := binary.LittleEndian
	for want, p := range map[string]string{
		`"os.system", which is neither data nor an array; nothing was executed`: "cos\nsystem\n(S'true'\ntR.",
		`"posix.system"`:              "\x80\x04\x8c\x05posix\x8c\x06system\x93\x8c\x04true\x85R.",
		`"builtins.eval"`:             "c__builtin__\neval\n(S'1'\ntR.",
		`"os.popen"`:                  "(S'x'\nios\npopen\n.",
		"a persistent id":             "Pabc\n.",
		"the file is cut":             "]",
		"the stack is empty":          "0.",
		"no mark":                     "t.",
		"no memo 7":                   "h\x07.",
		"protocol 9":                  "\x80\x09.",
		"opcode 0x82 is not known":    "\x82\x01.",
		"0x97":                        "\x97.",
		"an integer of 300 bytes":     "\x8b" + string(le.AppendUint32(nil, 300)) + strings.Repeat("\x01", 300) + ".",
		"not a quoted string":         "Sabc\n.",
		"not an integer":              "Ix\n.",
		"without a value":             "(K\x01d.",
		"dictionary key of type":      "}]K\x01s.",
		"on a tuple":                  ")K\x01a.",
		"a call of a int64":           "K\x01)R.",
		"a state for a list":          "]Nb.",
		"bare collections.OrderedDic": "ccollections\nOrderedDict\n.",
		"an array without a dtype":    "cnumpy.core.multiarray\nscalar\n(K\x01C\x01atR.",
		"is not a type of numbers":    "cnumpy\ndtype\n(X\x02\x00\x00\x00O8tR.",
		"with 1 bytes; want 8":        "cnumpy.core.multiarray\nscalar\n(cnumpy\ndtype\n(X\x02\x00\x00\x00f8tRC\x01atR.",
		"without its state":           "cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00tC\x01btR.",
		"a call with named arguments": "ccollections\nOrderedDict\n)}K\x01K\x02s\x92.",
	} {
		if _, err := DecodePickle([]byte(p)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error is %v; want one with %q", p, err, want)
		}
	}
	// a dictionary that contains itself many times over must not be walked for ever
	d := &Dict{}
	for i := range 100 {
		if err := d.set(int64(i), d); err != nil {
			t.Fatal(err)
		}
	}
	if a, _ := Flatten(d); len(a) != 0 {
		t.Errorf("%d arrays in a dictionary of itself", len(a))
	}
}

// TestGatherBounds asks that no view reads outside of its storage.
func TestGatherBounds(t *testing.T) {
	data := make([]byte, 40) // ten float32
	for _, c := range []struct {
		shape, stride []int64
		offset        int64
		ok            bool
	}{
		{[]int64{10}, []int64{1}, 0, true},
		{[]int64{10}, []int64{1}, 4, false},
		{[]int64{5}, []int64{2}, 4, true},
		{[]int64{5}, []int64{2}, 8, false},
		{[]int64{2, 5}, []int64{5, 1}, 0, true},
		{[]int64{2, 5}, []int64{6, 1}, 0, false},
		{[]int64{2}, []int64{math.MaxInt64}, 0, false},
		{[]int64{1}, []int64{math.MaxInt64}, 36, true},
		{[]int64{0}, []int64{1}, 400, true},
		{[]int64{1}, []int64{1}, 400, false},
		{[]int64{3, 3, 3, 3}, []int64{1 << 58, 1 << 58, 1 << 58, 1 << 58}, 0, false},
		{[]int64{1 << 20, 1 << 20}, []int64{0, 0}, 0, false}, // larger than any such file can mean
	} {
		if _, err := gather(newMachine(nil), F32, c.shape, c.stride, c.offset, data); (err == nil) != c.ok {
			t.Errorf("%v strides %v from %d: %v", c.shape, c.stride, c.offset, err)
		}
	}
}

func FuzzPickle(f *testing.F) {
	for protocol := range 6 {
		f.Add(testdata(f, fmt.Sprintf("stats%d.pkl", protocol)))
	}
	f.Add([]byte("cos\nsystem\n(S'true'\ntR."))
	f.Fuzz(func(_ *testing.T, b []byte) {
		if v, err := DecodePickle(b); err == nil {
			arrays, _ := Flatten(v)
			for _, a := range arrays {
				a.F32()
			}
		}
	})
}

func FuzzTorch(f *testing.F) {
	for _, name := range []string{"peer_zip.pth", "peer_stream.pth", "nested.pth", "one.pt", "module.pth", "script.pt"} {
		f.Add(testdata(f, name))
	}
	f.Fuzz(func(_ *testing.T, b []byte) {
		if arrays, _, err := DecodeTorch(b); err == nil {
			for _, a := range arrays {
				a.F32()
			}
		}
	})
}
