package monitoring

import (
	"bufio"
	"compress/gzip"
	"context"
	"flag"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	collecting "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracing "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/rollcall-scim/rollcall/services/change-detector/ldaptest"
)

var update = flag.Bool("update", false, "write the tables of docs/operations.md anew")

const operations = root + "/docs/operations.md"

// The reference names every metric and every span that a real `rollcall run` has, and
// nothing else; and it says for each alert what to do.
func TestReferenceIsUpToDate(t *testing.T) { //nolint:paralleltest // there is one telemetry in a process
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	spans := newSpans(t)
	metrics := free(ctx, t)
	directory := ldaptest.Start(t, ldaptest.Options{LDIF: people})
	startRollcall(ctx, t, directory, metrics, spans.URL)
	directory.LDIF(t, "dn: uid=u1,ou=people,dc=example,dc=com\nchangetype: modify\nreplace: sn\nsn: New\n")
	spans.await(ctx, t, "PATCH /Users/{id}")
	page := fetch(ctx, t, "http://"+metrics+"/metrics")

	text, err := os.ReadFile(operations)
	if err != nil {
		t.Fatal(err)
	}
	got := replaceTable(t, string(text), "metrics", metricTable(page))
	got = replaceTable(t, got, "spans", spans.table())
	if *update {
		if err := os.WriteFile(operations, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	} else if got != string(text) {
		t.Errorf("docs/operations.md is stale: go test ./services/rollcall/monitoring -run TestReferenceIsUpToDate -update\n%s", difference(string(text), got))
	}
	for alert := range alerts(t) {
		if !strings.Contains(string(text), "\n### "+alert+"\n") {
			t.Errorf("docs/operations.md does not say what to do about %s", alert)
		}
	}
}

// replaceTable puts a table between the marks of its name.
func replaceTable(t *testing.T, text, name, table string) string {
	t.Helper()
	from, to := "<!-- "+name+" -->\n", "<!-- end of "+name+" -->"
	before, rest, found := strings.Cut(text, from)
	_, after, ended := strings.Cut(rest, to)
	if !found || !ended {
		t.Fatalf("docs/operations.md has no place for %s", name)
	}
	return before + from + table + to + after
}

// difference is what one text has and the other lacks, line by line.
func difference(want, got string) string {
	var b strings.Builder
	has := func(text string) map[string]bool {
		lines := map[string]bool{}
		for line := range strings.Lines(text) {
			lines[line] = true
		}
		return lines
	}
	before, after := has(want), has(got)
	for line := range strings.Lines(want) {
		if !after[line] {
			b.WriteString("-" + line)
		}
	}
	for line := range strings.Lines(got) {
		if !before[line] {
			b.WriteString("+" + line)
		}
	}
	return b.String()
}

var (
	helpLine   = regexp.MustCompile(`^# HELP (rollcall_\w+) (.*)$`)
	typeLine   = regexp.MustCompile(`^# TYPE (rollcall_\w+) (\w+)$`)
	sampleLine = regexp.MustCompile(`^(rollcall_\w+)\{(.*)\} `)
	labelName  = regexp.MustCompile(`(\w+)="`)
)

// metricTable lists Rollcall's own metrics, from a page as Prometheus reads it.
func metricTable(page string) string {
	meaning, kind, labels := map[string]string{}, map[string]string{}, map[string]map[string]bool{}
	for lines := bufio.NewScanner(strings.NewReader(page)); lines.Scan(); {
		line := lines.Text()
		if m := helpLine.FindStringSubmatch(line); m != nil {
			meaning[m[1]] = m[2]
		}
		if m := typeLine.FindStringSubmatch(line); m != nil {
			kind[m[1]] = m[2]
		}
		if m := sampleLine.FindStringSubmatch(line); m != nil {
			name := m[1]
			for _, suffix := range []string{"_bucket", "_sum", "_count"} {
				if base, is := strings.CutSuffix(name, suffix); is && kind[base] == "histogram" {
					name = base
				}
			}
			if labels[name] == nil {
				labels[name] = map[string]bool{}
			}
			for _, label := range labelName.FindAllStringSubmatch(m[2], -1) {
				if !strings.HasPrefix(label[1], "otel_scope") && label[1] != "le" {
					labels[name][label[1]] = true
				}
			}
		}
	}
	var b strings.Builder
	b.WriteString("| Metric | Type | Labels | Meaning |\n|---|---|---|---|\n")
	for _, name := range slices.Sorted(maps.Keys(meaning)) {
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", name, kind[name], coded(labels[name]), meaning[name])
	}
	return b.String()
}

func coded(names map[string]bool) string {
	var out []string
	for _, name := range slices.Sorted(maps.Keys(names)) {
		out = append(out, "`"+name+"`")
	}
	return strings.Join(out, ", ")
}

// spans takes what is exported by OTLP.
type spans struct {
	*httptest.Server

	mu         sync.Mutex
	seen       map[string]bool            // names as they are
	kinds      map[string]string          // by name in the reference
	attributes map[string]map[string]bool // by name in the reference
}

func newSpans(t *testing.T) *spans {
	t.Helper()
	s := &spans{seen: map[string]bool{}, kinds: map[string]string{}, attributes: map[string]map[string]bool{}}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/x-protobuf")
		if r.URL.Path != "/v1/traces" {
			return
		}
		var body io.Reader = r.Body
		if r.Header.Get("Content-Encoding") == "gzip" {
			var err error
			if body, err = gzip.NewReader(r.Body); err != nil {
				t.Errorf("read an export: %v", err)
				return
			}
		}
		data, err := io.ReadAll(body)
		var export collecting.ExportTraceServiceRequest
		if err == nil {
			err = proto.Unmarshal(data, &export)
		}
		if err != nil {
			t.Errorf("read an export: %v", err)
			return
		}
		s.take(&export)
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *spans) take(export *collecting.ExportTraceServiceRequest) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, resource := range export.GetResourceSpans() {
		for _, scope := range resource.GetScopeSpans() {
			for _, span := range scope.GetSpans() {
				s.seen[span.GetName()] = true
				name := general(span)
				s.kinds[name] = strings.ToLower(strings.TrimPrefix(span.GetKind().String(), "SPAN_KIND_"))
				if s.attributes[name] == nil {
					s.attributes[name] = map[string]bool{}
				}
				for _, a := range span.GetAttributes() {
					s.attributes[name][a.GetKey()] = true
				}
			}
		}
	}
}

// general is a span's name without what differs from call to call.
func general(span *tracing.Span) string {
	verb, _, _ := strings.Cut(span.GetName(), " ")
	switch {
	case span.GetKind() == tracing.Span_SPAN_KIND_CLIENT:
		return "METHOD /route"
	case verb == "detect":
		return "detect users, detect groups"
	default:
		return verb + " STREAM"
	}
}

// seldom are attributes that a run without trouble does not have.
var seldom = map[string][]string{"METHOD /route": {"http.request.resend_count", "error.type"}}

func (s *spans) table() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var b strings.Builder
	b.WriteString("| Span | Kind | Attributes |\n|---|---|---|\n")
	for _, name := range slices.Sorted(maps.Keys(s.kinds)) {
		all := maps.Clone(s.attributes[name])
		for _, more := range seldom[name] {
			all[more] = true
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", name, s.kinds[name], coded(all))
	}
	return b.String()
}

// await waits until a span was exported; an exporter gathers for some seconds.
func (s *spans) await(ctx context.Context, t *testing.T, name string) {
	t.Helper()
	tick := time.NewTicker(scrape / 10)
	defer tick.Stop()
	for {
		s.mu.Lock()
		seen := s.seen[name]
		s.mu.Unlock()
		if seen {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("no span %q", name)
		case <-tick.C:
		}
	}
}

func fetch(ctx context.Context, t *testing.T, url string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	page, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(page)
}
