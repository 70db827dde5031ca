package cli

import (
	"bytes"
	"strings"
	"testing"
	"time"
)

func testApp() (a *app, stdout, stderr *bytes.Buffer, clock *time.Time) {
	stdout, stderr, clock = new(bytes.Buffer), new(bytes.Buffer), new(time.Time)
	*clock = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	a = newApp(&Env{
		Stdin: strings.NewReader(""), Stdout: stdout, Stderr: stderr,
		Now:    func() time.Time { return *clock },
		Getenv: func(string) string { return "" },
	})
	return a, stdout, stderr, clock
}

// In a log a stage says how far it is every ten seconds, not at every step.
func TestProgressInLog(t *testing.T) {
	a, _, stderr, clock := testApp()
	p := a.progress("features of out/", "images", 1000)
	for range 50 { // 25 s
		*clock = clock.Add(500 * time.Millisecond)
		p.Add(10)
	}
	if s := p.End(); s != 25 {
		t.Errorf("the stage took %v s, want 25", s)
	}
	want := "features of out/: 200 of 1000 images, 20.0 images/s, 40s left\n" +
		"features of out/: 400 of 1000 images, 20.0 images/s, 30s left\n"
	if got := stderr.String(); got != want {
		t.Errorf("log:\n%swant:\n%s", got, want)
	}
}

func TestProgressOfUnknownLength(t *testing.T) {
	a, _, stderr, clock := testApp()
	p := a.progress("features of -", "images", -1)
	*clock = clock.Add(10 * time.Second)
	p.Set(30)
	p.End()
	if got, want := stderr.String(), "features of -: 30 images, 3.0 images/s\n"; got != want {
		t.Errorf("log %q, want %q", got, want)
	}
}

// A stage that goes on counts its rate from there, ends with its limit, and shows what it is told.
func TestProgressGoesOn(t *testing.T) {
	a, _, stderr, clock := testApp()
	p := a.progress("digits", "steps", 1000)
	p.From(500, time.Minute)
	for range 25 {
		*clock = clock.Add(time.Second)
		p.Also("loss 0.5")
		p.Add(2)
	}
	want := "digits: 520 of 1000 steps, 2.0 steps/s, 50s left, loss 0.5\n" +
		"digits: 540 of 1000 steps, 2.0 steps/s, 40s left, loss 0.5\n"
	if got := stderr.String(); got != want {
		t.Errorf("log:\n%swant:\n%s", got, want)
	}
}

func TestProgressOnTerminal(t *testing.T) {
	a, stdout, stderr, clock := testApp()
	a.env.IsTTY = true
	p := a.progress("features", "images", 10)
	time.Sleep(110 * time.Millisecond) // the bar's own throttle, by the real clock
	*clock = clock.Add(time.Second)
	p.Add(5)
	got := stderr.String()
	for _, want := range []string{"features", "50%", "(5/10", "images/s"} {
		if !strings.Contains(got, want) {
			t.Errorf("the bar %q lacks %q", got, want)
		}
	}
	p.End()
	if !strings.HasSuffix(stderr.String(), "\r") || stdout.Len() > 0 {
		t.Errorf("the bar is left behind: %q; standard output: %q", stderr, stdout)
	}
}
