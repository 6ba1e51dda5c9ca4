package main

import (
	"strings"
	"testing"
)

func TestCount(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		events string
		want   string
		shown  string
	}{
		{"nothing ran", "", "0 passed, 0 failed", ""},
		{
			"a passed test says nothing",
			`{"Action":"output","Package":"p","Test":"T","Output":"noise\n"}
{"Action":"pass","Package":"p","Test":"T"}
{"Action":"output","Package":"p","Output":"PASS\n"}
{"Action":"output","Package":"p","Output":"ok  \tp\t0.1s\n"}
{"Action":"pass","Package":"p"}`,
			"1 passed, 0 failed", "ok  \tp\t0.1s\n",
		},
		{
			"a failed test counts once and is shown with the order",
			`{"Action":"output","Package":"p","Output":"-test.shuffle 7\n"}
{"Action":"output","Package":"p","Test":"T","Output":"why\n"}
{"Action":"fail","Package":"p","Test":"T"}
{"Action":"skip","Package":"p","Test":"S"}
{"Action":"fail","Package":"p"}`,
			"0 passed, 1 failed, 1 skipped", "why\n-test.shuffle 7\n",
		},
		{
			"a package that panics counts, and what its tests said is shown",
			`{"Action":"pass","Package":"p","Test":"A"}
{"Action":"output","Package":"p","Test":"B","Output":"panic: x\n"}
{"Action":"fail","Package":"p"}`,
			"1 passed, 1 failed", "panic: x\n",
		},
		{
			"a package that does not build counts",
			`{"Action":"build-output","ImportPath":"p","Output":"p.go:1: no\n"}
{"Action":"output","Package":"p","Output":"FAIL\tp [build failed]\n"}
{"Action":"fail","Package":"p"}`,
			"0 passed, 1 failed", "p.go:1: no\nFAIL\tp [build failed]\n",
		},
		{"what is no event is passed on", "go: downloading x", "0 passed, 0 failed", "go: downloading x"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			var shown strings.Builder
			s := newSummary(&shown)
			if err := s.read(strings.NewReader(test.events)); err != nil {
				t.Fatal(err)
			}
			if got := s.count(); got != test.want {
				t.Errorf("count: %q, want %q", got, test.want)
			}
			if got := shown.String(); got != test.shown {
				t.Errorf("shown: %q, want %q", got, test.shown)
			}
			if wantOK := strings.HasSuffix(test.want, " 0 failed") && !strings.HasPrefix(test.want, "0 "); s.ok() != wantOK {
				t.Errorf("ok: %v, want %v", s.ok(), wantOK)
			}
		})
	}
}
