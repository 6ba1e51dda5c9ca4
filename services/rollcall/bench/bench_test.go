package main

import (
	"bytes"
	"encoding/json"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestMain lets the test binary be the detector whose memory is measured.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == detectorCommand {
		main()
	}
	os.Exit(m.Run())
}

// TestRun runs every figure with tiny sizes, so that the program cannot rot.
func TestRun(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	o := options{
		small: shape{users: 20, groups: 4}, large: shape{users: 60, groups: 5, big: true},
		runs: 1, changes: 5, members: 30, joins: 2, leavers: 4, crowd: 60, huge: 120, unjudged: true, format: "json", dir: dir,
	}
	r, err := run(t.Context(), o, t.Output())
	if err != nil {
		t.Fatal(err)
	}
	if !r.Passed {
		t.Errorf("a figure failed: %+v", r.Figures)
	}
	for _, want := range []string{
		"disk: synced write of 4 KiB, p50", "first sync of 20 users, 4 groups, 60 memberships",
		"first sync: first request to last", "directory: modify round trip, p99", "change to request, 5 changes, p50",
		"full pass of 60 users, 5 groups, 192 memberships", "full pass: published though nothing changed",
	} {
		if !slices.ContainsFunc(r.Figures, func(f figure) bool { return f.Name == want }) {
			t.Errorf("no figure %q", want)
		}
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestShape(t *testing.T) {
	t.Parallel()
	for _, s := range []shape{{1000, 51, false}, {20, 4, false}, {100_000, 2000, true}, {1_000_000, 20_000, true}, {7, 4, true}} {
		n, seen := 0, map[int]bool{}
		for i := range s.users {
			groups := s.groupsFor(i)
			n += len(groups)
			slices.Sort(groups)
			if len(slices.Compact(groups)) != len(groups) || groups[0] < 0 || groups[len(groups)-1] >= s.groups {
				t.Fatalf("%v: user %d is in %v", s, i, groups)
			}
			for _, g := range groups {
				seen[g] = true
			}
		}
		if n != s.memberships() || len(seen) != s.groups {
			t.Errorf("%v: %d memberships in %d groups", s, n, len(seen))
		}
	}
}

func TestReport(t *testing.T) {
	t.Parallel()
	r := &report{Machine: "here"}
	r.atMost(figure{Name: "count", Value: 5, Unit: "requests"}, 5)
	r.ratio(figure{Name: "speed", Value: 2, Unit: "s", Baseline: &baseline{"bare", 1}, Ratio: 0.5}, 0)
	r.percentiles("times", []time.Duration{3e6, 1e6, 2e6}, "base", []time.Duration{1e6})
	if r.close(); !r.Passed {
		t.Error("failed without a reason")
	}
	r.ratio(figure{Name: "limited", Value: 2, Unit: "s", Baseline: &baseline{"bare", 1}, Ratio: 0.5}, 0.6)
	if r.close(); r.Passed {
		t.Error("passed below the limit")
	}
	var text, document bytes.Buffer
	if err := r.print(&text, "text"); err != nil {
		t.Fatal(err)
	}
	want := `here

FIGURE      VALUE       BASELINE             RATIO  VERDICT
count       5 requests  -                    -      pass (<= 5)
speed       2 s         1 s (bare)           0.50   stated
times, p50  2 ms        1 ms (base, p50)     0.50   stated
times, p99  3 ms        1 ms (base, p99)     0.33   stated
limited     2 s         1 s (bare)           0.50   FAIL (ratio >= 0.60)
`
	if diff := cmp.Diff(squeezed(want), squeezed(text.String())); diff != "" {
		t.Errorf("text (-want +got):\n%s", diff)
	}
	if err := r.print(&document, "json"); err != nil {
		t.Fatal(err)
	}
	var again report
	if err := json.Unmarshal(document.Bytes(), &again); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(*r, again); diff != "" {
		t.Errorf("JSON (-want +got):\n%s", diff)
	}
}

// squeezed is a text with single spaces.
func squeezed(text string) string {
	var lines []string
	for line := range strings.Lines(text) {
		lines = append(lines, strings.Join(strings.Fields(line), " "))
	}
	return strings.Join(lines, "\n")
}

func TestParse(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		args []string
		ok   bool
	}{
		{"nothing", nil, true},
		{"quick", []string{"-skip-large", "-changes", "10", "-o", "json"}, true},
		{"unknown format", []string{"-o", "xml"}, false},
		{"no runs", []string{"-runs", "0"}, false},
		{"something behind", []string{"now"}, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			if _, err := parse(test.args, t.Output()); (err == nil) != test.ok {
				t.Errorf("error: %v", err)
			}
		})
	}
}

// TestModifier lets a server answer in the long form of lengths that OpenLDAP
// may use.
func TestModifier(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		answer []byte
		ok     bool
	}{
		{"success", ber(tagSequence, ber(tagInteger, []byte{1}), ber(0x67, ber(tagEnumerated, []byte{0}), ber(tagOctets), ber(tagOctets))), true},
		{"long lengths", append([]byte{tagSequence, 0x84, 0, 0, 0, 12}, append(ber(tagInteger, []byte{1}), ber(0x67, ber(tagEnumerated, []byte{0}), ber(tagOctets), ber(tagOctets))...)...), true},
		{"no such object", ber(tagSequence, ber(tagInteger, []byte{1}), ber(0x67, ber(tagEnumerated, []byte{32}), ber(tagOctets), ber(tagOctets))), false},
		{"another message", ber(tagSequence, ber(tagInteger, []byte{2}), ber(0x67, ber(tagEnumerated, []byte{0}))), false},
		{"too long", []byte{tagSequence, 0x84, 0xff, 0xff, 0xff, 0xff}, false},
		{"cut", []byte{tagSequence}, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			client, server := net.Pipe()
			go func() {
				defer func() { _ = server.Close() }()
				if _, err := readElement(server); err == nil {
					_, _ = server.Write(test.answer)
				}
			}()
			m := newModifier(client)
			if err := m.replace("uid=a", "title", strings.Repeat("x", 300)); (err == nil) != test.ok {
				t.Errorf("error: %v", err)
			}
			_ = m.close()
		})
	}
}
