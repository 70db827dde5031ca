package systems

import (
	"bytes"
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/report"
)

func someRecord(t testing.TB) *Record {
	t.Helper()
	runs := 0
	e := counted(&runs, nil)
	r := Recipe{Name: "gaussteleport", Number: 2, Plan: planOf(e)}
	p, err := Prove(t.Context(), &Env{Version: "v1", Build: "b"}, r, Short)
	if err != nil {
		t.Fatal(err)
	}
	return p.Record
}

func encode(t testing.TB, v any) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := report.WriteJSON(&b, v); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestRecordRoundTrip(t *testing.T) {
	rec := someRecord(t)
	got, err := DecodeRecord("r.json", encode(t, rec))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(encode(t, got), encode(t, rec)) {
		t.Error("a record read is not the record written")
	}
	if got.Find("e/a").Estimate != rec.Find("e/a").Estimate || got.Find("e/b") != nil {
		t.Error("its criterion is lost")
	}
	if got.Experiments[0].Arms[0].Params.Num("rho") != 7 {
		t.Errorf("its settings are lost: %v", got.Experiments[0].Arms[0].Params)
	}
}

// Records of other schemas are refused with what to do, and so are those that contradict themselves.
func TestBadRecords(t *testing.T) {
	change := func(f func(m map[string]any)) []byte {
		var m map[string]any
		if err := json.Unmarshal(encode(t, someRecord(t)), &m); err != nil {
			t.Fatal(err)
		}
		f(m)
		return encode(t, m)
	}
	for _, c := range []struct {
		name, want string
		b          []byte
	}{
		{"newer", "schema 2; this program reads 1: take a newer one", change(func(m map[string]any) { m["schema"] = 2 })},
		{"older", "schema 0; this program reads 1: prove the system anew", change(func(m map[string]any) { m["schema"] = 0 })},
		{"none", "no schema", []byte(`{"a":1}`)},
		{"no JSON", "not a record", []byte("<html>")},
		{"cut", "not a record", encode(t, someRecord(t))[:200]},
		{"tier", `tier "huge"`, change(func(m map[string]any) { m["tier"] = "huge" })},
		{"system", "not in the catalog", change(func(m map[string]any) { m["number"] = 43 })},
		{"touched up", `its verdict is "fail", its criteria come to "pass"`, change(func(m map[string]any) { m["verdict"] = "fail" })},
		{"seeds", "wanted one for each of 4 seeds", change(func(m map[string]any) { m["experiments"].([]any)[0].(map[string]any)["seeds"] = 4 })},
		{"huge", "at most", make([]byte, maxRecord+1)},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := DecodeRecord("r.json", c.b)
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.HasPrefix(err.Error(), "r.json: ") {
				t.Errorf("%v; wanted %q", err, c.want)
			}
			var schema *SchemaError
			if errors.As(err, &schema) != strings.Contains(c.want, "this program reads") {
				t.Errorf("%T", err)
			}
		})
	}
	extra := change(func(m map[string]any) { m["more"] = "of a later program" })
	if _, err := DecodeRecord("r.json", extra); err != nil {
		t.Errorf("a field more: %v", err)
	}
}

func FuzzRecord(f *testing.F) {
	f.Add(encode(f, someRecord(f)))
	f.Add([]byte(`{"schema":1,"tier":"full","number":2,"system":"gaussteleport","experiments":[{"name":"e","seeds":1,"arms":[{}]}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := DecodeRecord("f", b)
		if err != nil {
			return
		}
		var text bytes.Buffer
		if err := r.WriteText(&text); err != nil {
			t.Fatal(err)
		}
		if err := r.WriteMarkdown(&text); err != nil {
			t.Fatal(err)
		}
	})
}

func TestTables(t *testing.T) {
	rec := someRecord(t)
	var text, md bytes.Buffer
	if err := rec.WriteText(&text); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"e: which (4 samples, 3 seeds)", "ours", "rho=7", "fd, ours / theirs: 0.5", "≤ 0.6", "02 gaussteleport, short tier: pass"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("no %q in\n%s", want, &text)
		}
	}
	if err := rec.WriteMarkdown(&md); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(md.String(), "| a | half | fd, ours / theirs: 0.5 ") {
		t.Errorf("%s", &md)
	}
	if reflect.DeepEqual(rec.Tables(), nil) {
		t.Error("no tables")
	}
}
