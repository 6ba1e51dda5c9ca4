package main

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
)

// Verdicts. Milliseconds are only stated: they are the machine's as much as ours.
const (
	passed = "pass"
	failed = "FAIL"
	stated = "stated"
)

// figure is one line of the report.
type figure struct {
	Name     string    `json:"name"`
	Value    float64   `json:"value"`
	Unit     string    `json:"unit"`
	Baseline *baseline `json:"baseline,omitempty"`
	Ratio    float64   `json:"ratio,omitempty"` // 0: there is none
	Limit    string    `json:"limit,omitempty"`
	Verdict  string    `json:"verdict"`
}

// baseline is what a figure is compared with: something of the same run that
// needs none of Rollcall.
type baseline struct {
	Name  string  `json:"name"`
	Value float64 `json:"value"`
}

// report is everything that a run found.
type report struct {
	Machine string   `json:"machine"`
	Figures []figure `json:"figures"`
	Passed  bool     `json:"passed"`

	Unjudged bool `json:"-"` // ratios are only stated
}

func (r *report) add(f figure) {
	if f.Verdict == "" {
		f.Verdict = stated
	}
	r.Figures = append(r.Figures, f)
}

// atMost adds a figure that must not exceed a limit.
func (r *report) atMost(f figure, limit float64) {
	f.Limit, f.Verdict = "<= "+number(limit), passed
	if f.Value > limit {
		f.Verdict = failed
	}
	r.add(f)
}

// ratio adds a figure whose ratio must not be below a limit; 0 is no limit.
func (r *report) ratio(f figure, limit float64) {
	if limit > 0 && !r.Unjudged {
		f.Limit, f.Verdict = "ratio >= "+number(limit), passed
		if f.Ratio < limit {
			f.Verdict = failed
		}
	}
	r.add(f)
}

// percentiles adds p50 and p99 of durations, in milliseconds, beside those of a
// baseline where there is one. Their ratio is that of the baseline: 1 is as fast.
func (r *report) percentiles(name string, all []time.Duration, base string, other []time.Duration) {
	for _, p := range []int{50, 99} {
		f := figure{Name: fmt.Sprintf("%s, p%d", name, p), Value: millis(percentile(all, p)), Unit: "ms"}
		if len(other) > 0 {
			f.Baseline = &baseline{fmt.Sprintf("%s, p%d", base, p), millis(percentile(other, p))}
			f.Ratio = f.Baseline.Value / f.Value
		}
		r.add(f)
	}
}

// within adds p50 and p99 of durations, of which each may be so many times that of a
// baseline; 0 is no limit.
func (r *report) within(name string, all []time.Duration, base string, other []time.Duration, p50, p99 float64) {
	for i, times := range []float64{p50, p99} {
		p := []int{50, 99}[i]
		own, bare := millis(percentile(all, p)), millis(percentile(other, p))
		limit := 0.0
		if times > 0 {
			limit = 1 / times
		}
		r.ratio(figure{
			Name: fmt.Sprintf("%s, p%d", name, p), Value: own, Unit: "ms",
			Baseline: &baseline{fmt.Sprintf("%s, p%d", base, p), bare}, Ratio: bare / own,
		}, limit)
	}
}

// close says whether no figure failed.
func (r *report) close() {
	r.Passed = !slices.ContainsFunc(r.Figures, func(f figure) bool { return f.Verdict == failed })
}

func (r *report) print(w io.Writer, format string) error {
	if format == "json" {
		encoder := json.NewEncoder(w)
		encoder.SetEscapeHTML(false)
		encoder.SetIndent("", "  ")
		if err := encoder.Encode(r); err != nil {
			return fmt.Errorf("print the report: %w", err)
		}
		return nil
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	lines := []string{r.Machine, "", "FIGURE\tVALUE\tBASELINE\tRATIO\tVERDICT"}
	for _, f := range r.Figures {
		lines = append(lines, f.line())
	}
	if _, err := fmt.Fprintln(t, strings.Join(lines, "\n")); err != nil {
		return fmt.Errorf("print the report: %w", err)
	}
	if err := t.Flush(); err != nil {
		return fmt.Errorf("print the report: %w", err)
	}
	return nil
}

func (f figure) line() string {
	base, ratio, verdict := "-", "-", f.Verdict
	if f.Baseline != nil {
		base = fmt.Sprintf("%s %s (%s)", number(f.Baseline.Value), f.Unit, f.Baseline.Name)
	}
	if f.Ratio > 0 {
		ratio = strconv.FormatFloat(f.Ratio, 'f', 2, 64)
	}
	if f.Limit != "" {
		verdict += " (" + f.Limit + ")"
	}
	return fmt.Sprintf("%s\t%s %s\t%s\t%s\t%s", f.Name, number(f.Value), f.Unit, base, ratio, verdict)
}

// number is a value with three digits that say something.
func number(v float64) string {
	switch {
	case v == math.Trunc(v) || v >= 100:
		return strconv.FormatFloat(v, 'f', 0, 64)
	case v >= 10:
		return strconv.FormatFloat(v, 'f', 1, 64)
	default:
		return strconv.FormatFloat(v, 'f', 2, 64)
	}
}

func millis(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// percentile is the smallest value that p percent do not exceed.
func percentile(all []time.Duration, p int) time.Duration {
	if len(all) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(all))
	return sorted[(len(sorted)*p+99)/100-1]
}
