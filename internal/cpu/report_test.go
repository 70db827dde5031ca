package cpu

import "testing"

func TestReport(t *testing.T) {
	for _, l := range Report() {
		t.Logf("%+v", l)
		if l.Name == "" || l.Purpose == "" {
			t.Errorf("%+v has no name or purpose", l)
		}
		if !l.Used && l.Why == "" {
			t.Errorf("%s is not used and nothing says why", l.Name)
		}
		if l.Used && (l.Path == "" || l.Version == "") {
			t.Errorf("%s is used and has no path or version: %+v", l.Name, l)
		}
	}
}
