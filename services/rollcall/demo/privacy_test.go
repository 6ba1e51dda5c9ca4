package main

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
)

// collector takes what is exported by OTLP, as it is.
type collector struct {
	*httptest.Server

	mu     sync.Mutex
	bodies map[string][]byte // by path
}

func newCollector(t *testing.T) *collector {
	t.Helper()
	c := &collector{bodies: map[string][]byte{}}
	c.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var body io.Reader = r.Body
		if r.Header.Get("Content-Encoding") == "gzip" {
			unzipped, err := gzip.NewReader(r.Body)
			if err != nil {
				t.Errorf("read an export: %v", err)
				return
			}
			body = unzipped
		}
		all, err := io.ReadAll(body)
		if err != nil {
			t.Errorf("read an export: %v", err)
		}
		c.mu.Lock()
		c.bodies[r.URL.Path] = append(c.bodies[r.URL.Path], all...)
		c.mu.Unlock()
		w.Header().Set("Content-Type", "application/x-protobuf")
	}))
	t.Cleanup(c.Close)
	return c
}

// TestTelemetryHoldsNoPersonalData plays the demo with every span exported, and looks
// for every personal value of the directory in spans, metrics and logs.
func TestTelemetryHoldsNoPersonalData(t *testing.T) {
	t.Parallel()
	exported := newCollector(t)
	company := newCompany()
	personal := personalValues(company)
	s := &stage{printer: newPrinter(io.Discard), dir: t.TempDir(), telemetry: fmt.Sprintf("otlp_endpoint: %q, sample_ratio: 1, ", exported.URL)}
	t.Cleanup(func() {
		if err := s.close(); err != nil {
			t.Errorf("end the demo: %v", err)
		}
	})
	if err := s.begin(t.Context(), company); err != nil {
		t.Fatal(err)
	}
	if err := s.firstSync(t.Context()); err != nil {
		t.Fatal(s.failure(t.Context(), err))
	}
	if _, err := s.play(t.Context(), morning(company)); err != nil {
		t.Fatal(s.failure(t.Context(), err))
	}
	res, err := http.Get(s.metrics)
	if err != nil {
		t.Fatal(err)
	}
	metrics, err := io.ReadAll(res.Body)
	if err := errors.Join(err, res.Body.Close()); err != nil {
		t.Fatal(err)
	}
	if err := s.rollcall.stop(); err != nil { // it sends what it has not sent yet
		t.Fatal(err)
	}
	s.children = slices.DeleteFunc(s.children, func(c *child) bool { return c == s.rollcall })
	log, err := os.ReadFile(s.rollcall.log)
	if err != nil {
		t.Fatal(err)
	}
	exported.mu.Lock()
	defer exported.mu.Unlock()
	sources := map[string][]byte{
		"spans": exported.bodies["/v1/traces"], "metrics by OTLP": exported.bodies["/v1/metrics"], "metrics": metrics, "log": log,
	}
	for name, text := range sources {
		if len(text) < 1000 {
			t.Errorf("%s: %d bytes, which is nearly nothing", name, len(text))
		}
		for _, value := range personal.FindAll(text, -1) {
			at := bytes.Index(text, value)
			t.Errorf("%s: %q in %q", name, value, text[max(0, at-40):min(len(text), at+60)])
		}
	}
}

// personalValues finds what tells who somebody is, as whole words.
func personalValues(c *company) *regexp.Regexp {
	values := map[string]bool{}
	for _, p := range c.people {
		for _, value := range []string{p.uid, p.mail(), p.number, p.cn(), p.family, p.given} {
			if len(value) > 3 { // shorter ones are words of every language
				values[regexp.QuoteMeta(value)] = true
			}
		}
	}
	for _, value := range []string{"emile.darcy", "maya.sahin", "anna.lindqvist", "Lindqvist"} { // of the story
		values[regexp.QuoteMeta(value)] = true
	}
	all := make([]string, 0, len(values))
	for value := range values {
		all = append(all, value)
	}
	slices.Sort(all)
	return regexp.MustCompile(`\b(` + strings.Join(all, "|") + `)\b`)
}
