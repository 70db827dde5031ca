// Command browser looks at a page of fidlab's in headless Chromium, offline, as a reader does: in the light and the dark theme and
// printed. It fails on messages on the console, on anything that is asked for besides the page itself, on text whose contrast is below
// 4.5 as the browser draws it, and where the keyboard does not reach every link, table and fold. Screenshots and a PDF go to -o.
//
// Usage: go run ./scripts/browser [-o DIR] PAGE.html...
//
// Without a browser (chromium-headless-shell or chromium on PATH, or FIDLAB_BROWSER) it says "skipped" and exits with 0.
package main

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

func main() {
	out := flag.String("o", "browser-out", "write screenshots to `DIR`")
	flag.Parse()
	path := browser()
	if path == "" {
		fmt.Println("skipped: no browser here; install chromium-headless-shell, or name one in FIDLAB_BROWSER")
		return
	}
	failed := false
	for _, page := range flag.Args() {
		if err := look(path, page, *out); err != nil {
			fmt.Printf("%s: %v\n", page, err)
			failed = true
			continue
		}
		fmt.Printf("%s: ok\n", page)
	}
	if failed || flag.NArg() == 0 {
		os.Exit(1)
	}
}

func browser() string {
	for _, name := range []string{os.Getenv("FIDLAB_BROWSER"), "chromium-headless-shell", "chromium", "google-chrome"} {
		if path, err := exec.LookPath(name); name != "" && err == nil {
			return path
		}
	}
	return ""
}

// session speaks the DevTools protocol over the pipes 3 and 4 of the browser: JSON with a zero byte after each message.
type session struct {
	in     io.Writer
	out    *bufio.Reader
	id     int
	target string
	events []event
}

type event struct {
	Method string          `json:"method"`
	Params json.RawMessage `json:"params"`
}

// call sends a command and waits for its answer; events on the way are kept.
func (s *session) call(method string, params map[string]any, result any) error {
	s.id++
	message := map[string]any{"id": s.id, "method": method, "params": params}
	if s.target != "" {
		message["sessionId"] = s.target
	}
	b, err := json.Marshal(message)
	if err != nil {
		return err
	}
	if _, err := s.in.Write(append(b, 0)); err != nil {
		return err
	}
	for {
		var answer struct {
			ID     int             `json:"id"`
			Result json.RawMessage `json:"result"`
			Error  *struct {
				Message string `json:"message"`
			} `json:"error"`
			event
		}
		if err := s.next(&answer); err != nil {
			return fmt.Errorf("%s: %w", method, err)
		}
		switch {
		case answer.ID == 0:
			s.events = append(s.events, answer.event)
		case answer.ID == s.id && answer.Error != nil:
			return fmt.Errorf("%s: %s", method, answer.Error.Message)
		case answer.ID == s.id && result != nil:
			return json.Unmarshal(answer.Result, result)
		case answer.ID == s.id:
			return nil
		}
	}
}

func (s *session) next(v any) error {
	b, err := s.out.ReadBytes(0)
	if err != nil {
		return err
	}
	return json.Unmarshal(b[:len(b)-1], v)
}

// wait reads until an event of that name has come.
func (s *session) wait(name string) error {
	for {
		for _, e := range s.events {
			if e.Method == name {
				return nil
			}
		}
		var e event
		if err := s.next(&e); err != nil {
			return err
		}
		s.events = append(s.events, e)
	}
}

// value evaluates an expression in the page.
func (s *session) value(expression string, v any) error {
	var r struct {
		Result struct {
			Value json.RawMessage `json:"value"`
		} `json:"result"`
		ExceptionDetails *struct {
			Text string `json:"text"`
		} `json:"exceptionDetails"`
	}
	if err := s.call("Runtime.evaluate", map[string]any{"expression": expression, "returnByValue": true}, &r); err != nil {
		return err
	}
	if r.ExceptionDetails != nil {
		return errors.New(r.ExceptionDetails.Text)
	}
	return json.Unmarshal(r.Result.Value, v)
}

func look(browser, page, out string) (err error) {
	full, err := filepath.Abs(page)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(out, 0o777); err != nil {
		return err
	}
	profile, err := os.MkdirTemp("", "fidlab-browser")
	if err != nil {
		return err
	}
	defer os.RemoveAll(profile)
	toR, toW, err := os.Pipe()
	if err != nil {
		return err
	}
	fromR, fromW, err := os.Pipe()
	if err != nil {
		return err
	}
	cmd := exec.Command(browser, "--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe", "--user-data-dir="+profile, "about:blank")
	cmd.ExtraFiles = []*os.File{toR, fromW} // descriptors 3 and 4
	if err := cmd.Start(); err != nil {
		return err
	}
	toR.Close()
	fromW.Close()
	defer func() {
		toW.Close() // which ends it
		if cmd.Process.Kill() == nil {
			_ = cmd.Wait() // it was killed
		}
	}()
	s := &session{in: toW, out: bufio.NewReader(fromR)}
	if err := s.attach(); err != nil {
		return err
	}
	if err := s.call("Page.navigate", map[string]any{"url": "file://" + full}, nil); err != nil {
		return err
	}
	if err := s.wait("Page.loadEventFired"); err != nil {
		return err
	}
	stem := filepath.Join(out, strings.TrimSuffix(filepath.Base(page), ".html"))
	var problems []error
	for _, theme := range []string{"light", "dark"} {
		media := map[string]any{"features": []map[string]string{{"name": "prefers-color-scheme", "value": theme}}}
		if err := s.call("Emulation.setEmulatedMedia", media, nil); err != nil {
			return err
		}
		if err := s.picture(stem + "-" + theme + ".png"); err != nil {
			return err
		}
		var faint []string
		if err := s.value(faintText, &faint); err != nil {
			return err
		}
		for _, f := range faint {
			problems = append(problems, fmt.Errorf("%s: %s", theme, f))
		}
	}
	if err := s.pdf(stem + ".pdf"); err != nil {
		return err
	}
	problems = append(problems, s.tab(), s.quiet("file://"+full))
	return errors.Join(problems...)
}

func (s *session) attach() error {
	var target struct {
		TargetID string `json:"targetId"`
	}
	if err := s.call("Target.createTarget", map[string]any{"url": "about:blank"}, &target); err != nil {
		return err
	}
	var attached struct {
		SessionID string `json:"sessionId"`
	}
	if err := s.call("Target.attachToTarget", map[string]any{"targetId": target.TargetID, "flatten": true}, &attached); err != nil {
		return err
	}
	s.target = attached.SessionID
	for _, domain := range []string{"Page", "Network", "Runtime", "Log"} {
		if err := s.call(domain+".enable", map[string]any{}, nil); err != nil {
			return err
		}
	}
	return s.call("Emulation.setDeviceMetricsOverride", map[string]any{"width": 1000, "height": 900, "deviceScaleFactor": 1, "mobile": false}, nil)
}

func (s *session) picture(path string) error {
	return s.save(path, "Page.captureScreenshot", map[string]any{"captureBeyondViewport": true, "format": "png"})
}

func (s *session) pdf(path string) error {
	return s.save(path, "Page.printToPDF", map[string]any{"preferCSSPageSize": true})
}

func (s *session) save(path, method string, params map[string]any) error {
	var r struct {
		Data string `json:"data"`
	}
	if err := s.call(method, params, &r); err != nil {
		return err
	}
	b, err := base64.StdEncoding.DecodeString(r.Data)
	if err != nil {
		return err
	}
	return os.WriteFile(path, b, 0o666)
}

// tab goes through the page by the key Tab: every link, focusable region and fold must be reached, in the order of the page.
func (s *session) tab() error {
	var want []string
	const describe = `(e => e.tagName + ":" + (e.getAttribute("aria-label") || e.textContent).trim().slice(0, 60))`
	if err := s.value(`[...document.querySelectorAll('a[href], [tabindex="0"], summary')].filter(e => e.checkVisibility()).map(`+describe+`)`, &want); err != nil {
		return err
	}
	for i, w := range want {
		for _, kind := range []string{"rawKeyDown", "keyUp"} {
			if err := s.call("Input.dispatchKeyEvent", map[string]any{"type": kind, "key": "Tab", "code": "Tab", "windowsVirtualKeyCode": 9}, nil); err != nil {
				return err
			}
		}
		var got string
		if err := s.value(describe+`(document.activeElement)`, &got); err != nil {
			return err
		}
		if got != w {
			return fmt.Errorf("the key Tab, %d times: at %q; want %q", i+1, got, w)
		}
		var outlined bool
		if err := s.value(`getComputedStyle(document.activeElement).outlineStyle != "none"`, &outlined); err != nil {
			return err
		}
		if !outlined {
			return fmt.Errorf("%q has the focus, and nothing shows it", got)
		}
	}
	if len(want) == 0 {
		return errors.New("the keyboard reaches nothing")
	}
	return nil
}

// quiet looks through all events for messages and for what the page asked for.
func (s *session) quiet(page string) error {
	for _, e := range s.events {
		switch e.Method {
		case "Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded":
			return fmt.Errorf("a message on the console: %.300s", e.Params)
		case "Network.requestWillBeSent":
			var r struct {
				Request struct {
					URL string `json:"url"`
				} `json:"request"`
			}
			if err := json.Unmarshal(e.Params, &r); err != nil {
				return err
			}
			if u := r.Request.URL; u != page && !strings.HasPrefix(u, "data:image/png;") {
				return fmt.Errorf("the page asks for %.200s", u)
			}
		}
	}
	return nil
}

// faintText lists text with a contrast below 4.5 against the nearest opaque background (WCAG 2, AA).
const faintText = `(() => {
  const rgb = t => t.match(/[\d.]+/g).map(Number);
  const lum = c => [0.2126, 0.7152, 0.0722].reduce((s, w, i) => {
    const v = c[i] / 255;
    return s + w * (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  }, 0);
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT), bad = new Set();
  for (let n; n = walk.nextNode();) {
    const e = n.parentElement;
    if (!n.data.trim() || !e.checkVisibility()) continue;
    const style = getComputedStyle(e), color = e.closest("svg") ? style.fill : style.color;
    let ground = [255, 255, 255];
    for (let p = e; p; p = p.parentElement) {
      const c = rgb(getComputedStyle(p).backgroundColor);
      if (c.length < 4 || c[3] > 0) { ground = c; break; }
    }
    const a = lum(rgb(color)), b = lum(ground), k = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (k < 4.5) bad.add("contrast " + k.toFixed(2) + " of " + e.tagName + ": " + n.data.trim().slice(0, 40));
  }
  return [...bad];
})()`
