package oracle

import (
	"fmt"
	"strings"
	"testing"
)

// Refuses calls each function, which must panic with its text.
func Refuses(t testing.TB, bad map[string]func()) {
	t.Helper()
	for want, f := range bad {
		RefusesOne(t, want, f)
	}
}

// RefusesOne calls f, which must panic with the text want in it.
func RefusesOne(t testing.TB, want string, f func()) {
	t.Helper()
	defer func() {
		t.Helper()
		if v := fmt.Sprint(recover()); !strings.Contains(v, want) {
			t.Errorf("want a panic with %q, got %.300s", want, v)
		}
	}()
	f()
}
