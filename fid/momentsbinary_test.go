package fid

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"reflect"
	"testing"
)

// TestMomentsBinary: what is read back goes on to the same bits, wherever the stream of rows was cut.
func TestMomentsBinary(t *testing.T) {
	for _, d := range []int{1, 5, smallDim, 70} { // loops and library calls
		x := farFromZero(2*blockRows+77, d)
		for _, cut := range []int{0, 1, blockRows - 1, blockRows, blockRows + 300, 2*blockRows + 77} {
			for _, fresh := range []func(int) *Moments{NewMoments, newMeans} {
				whole, first := fresh(d), fresh(d)
				if err := errors.Join(whole.Add(x), first.Add(x[:cut*d])); err != nil {
					t.Fatal(err)
				}
				b, err := first.MarshalBinary()
				if err != nil {
					t.Fatal(err)
				}
				var back Moments
				if err := back.UnmarshalBinary(b); err != nil {
					t.Fatalf("d=%d cut=%d: %v", d, cut, err)
				}
				again, err := back.MarshalBinary()
				if err != nil || !bytes.Equal(again, b) {
					t.Errorf("d=%d cut=%d: written again it is other bytes (%v)", d, cut, err)
				}
				if err := back.Add(x[cut*d:]); err != nil {
					t.Fatal(err)
				}
				if !reflect.DeepEqual(back.Stats(), whole.Stats()) {
					t.Errorf("d=%d cut=%d: the rest of the rows led elsewhere", d, cut)
				}
			}
		}
	}
}

// TestMomentsBinaryMerge: shards that travelled as bytes merge to the two-pass moments of all rows.
func TestMomentsBinaryMerge(t *testing.T) {
	const d, n = 40, 5000
	x := farFromZero(n, d)
	all := NewMoments(d)
	for from := 0; from < n; from += 1300 {
		part := NewMoments(d)
		if err := part.Add(x[from*d : min(from+1300, n)*d]); err != nil {
			t.Fatal(err)
		}
		b, err := part.MarshalBinary()
		if err != nil {
			t.Fatal(err)
		}
		var back Moments
		if err := back.UnmarshalBinary(b); err != nil {
			t.Fatal(err)
		}
		all.Merge(&back)
	}
	if err := sameMoments(all.Stats(), direct(x, d), 1e-12); err != nil {
		t.Error(err)
	}
}

func TestMomentsBinaryBad(t *testing.T) {
	m := NewMoments(3)
	if err := m.Add([]float32{1, 2, 3, 4, 5, 6}); err != nil {
		t.Fatal(err)
	}
	good, err := m.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	word := func(at int, v uint32) []byte {
		b := bytes.Clone(good)
		binary.LittleEndian.PutUint32(b[len(momentsMagic)+4*at:], v)
		return b
	}
	for name, b := range map[string][]byte{
		"empty": nil, "another kind": []byte("PK\x03\x04 and so on and on and on"), "cut": good[:len(good)-1],
		"longer": append(bytes.Clone(good), 0), "no features": word(0, 0), "too wide": word(0, math.MaxUint32),
		"a whole block pending": word(2, blockRows), "half a triangle": word(3, 5),
	} {
		back := NewMoments(2)
		err := back.UnmarshalBinary(b)
		var bad *BadInputError
		if !errors.As(err, &bad) {
			t.Errorf("%s: %v; want a BadInputError", name, err)
		}
		if back.Dim() != 2 || back.N() != 0 {
			t.Errorf("%s: changed what it was read into", name)
		}
	}
}
