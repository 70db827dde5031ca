package shapes

import (
	"strings"
	"testing"

	"github.com/fidlab/fidlab/data"
)

// Pictures of the set hold to their own captions in every count, and those of the twins with swapped colours in none of their pairs.
func TestJudgeByCaption(t *testing.T) {
	set := New(1)
	check := func(it *Item, caption string) data.Check {
		t.Helper()
		c, err := set.Check(data.Given{Pictures: it.Pictures(), Caption: &caption})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	var own, twin data.Totals
	for k := range 20 {
		a, b := set.At(TestBinding, 2*k), set.At(TestBinding, 2*k+1)
		own.Add(check(a, a.Caption))
		twin.Add(check(a, b.Caption))
	}
	for i := range 30 {
		it := set.At(data.Test, i)
		c := check(it, it.Caption)
		if !c.OK {
			t.Errorf("%+v", c)
		}
		own.Add(c)
	}
	asked := map[string]int{}
	for _, c := range own.Counts() {
		asked[c.Name] = c.Of
		if want := c.Of; c.Name == "abstained" && c.Hits != 0 || c.Name != "abstained" && c.Hits != want {
			t.Errorf("own captions: %s", c)
		}
	}
	if asked["binding"] != asked["binding, 1 object"]+asked["binding, 2 objects"]+asked["binding, 3 objects"] || asked["binding, 2 objects"] < 40 || asked["relation"] == 0 || asked["position"] == 0 {
		t.Errorf("%v", asked)
	}
	for _, c := range twin.Counts() {
		switch c.Name {
		case "caption", "binding", "binding, 2 objects", "complete", "nothing else":
			if c.Hits != 0 || c.Of == 0 {
				t.Errorf("the twins' captions: %s", c)
			}
		}
	}
	caption := "a red elephant"
	if _, err := set.Check(data.Given{Pictures: set.At(data.Test, 0).Pictures(), Caption: &caption}); err == nil || !strings.Contains(err.Error(), "elephant") {
		t.Errorf("%v", err)
	}
}
