package console

import (
	"bytes"
	"embed"
	"encoding/json"
	"fmt"
	"html/template"
	"io/fs"
	"log/slog"
	"net/http"
	"slices"
	"time"

	"github.com/rollcall-scim/rollcall/pkg/status"
	"github.com/rollcall-scim/rollcall/pkg/worker"
)

//go:embed pages
var pages embed.FS

// statusPath is where programs ask.
const statusPath = "/api/v1/status"

// page is what the page of the status shows.
type page struct {
	reading
	verdict

	Error string // why nothing can be shown
}

// routes are the pages, their style and the HTTP API.
func routes(latest *reader, log *slog.Logger) http.Handler {
	layout := template.Must(template.New("status.html").Funcs(template.FuncMap{"when": when, "rows": rows}).ParseFS(pages, "pages/status.html"))
	style, err := fs.Sub(pages, "pages")
	if err != nil {
		panic(err) // it is in the program
	}
	mux := http.NewServeMux()
	mux.Handle("GET /console.css", http.FileServerFS(style))
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) { showPage(w, r, layout, latest, log) })
	mux.HandleFunc("GET "+statusPath, func(w http.ResponseWriter, r *http.Request) { showJSON(w, r, latest) })
	return mux
}

// showPage answers with a page; where nothing can be read, it says so and tries again.
func showPage(w http.ResponseWriter, r *http.Request, layout *template.Template, latest *reader, log *slog.Logger) {
	p := page{}
	code := http.StatusOK
	var err error
	if p.reading, err = latest.get(r.Context()); err != nil {
		p.Error, code = err.Error(), http.StatusServiceUnavailable
	} else {
		p.verdict = judge(p.Status)
	}
	var body bytes.Buffer
	if err := layout.Execute(&body, p); err != nil {
		log.ErrorContext(r.Context(), "the console cannot show the status", "error", err)
		http.Error(w, "the page cannot be made; the log of the console says why", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(code)
	_, _ = body.WriteTo(w) // who goes away needs no answer
}

// showJSON answers with what `rollcall status -o json` prints, and when it was so.
func showJSON(w http.ResponseWriter, r *http.Request, latest *reader) {
	var answer any
	code := http.StatusOK
	now, err := latest.get(r.Context())
	if answer = now.Status; err != nil {
		answer, code = map[string]string{"error": err.Error()}, http.StatusServiceUnavailable
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Last-Modified", now.At.UTC().Format(http.TimeFormat))
	w.WriteHeader(code)
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	_ = encoder.Encode(answer) // who goes away needs no answer
}

// when is a time for people, wherever they are.
func when(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05") + " UTC" }

// row is one kind of a connection.
type row struct {
	Kind string
	*worker.Summary
}

func rows(c status.Connection) []row {
	all := []row{{"users", c.Users}}
	if c.Groups != nil {
		all = append(all, row{"groups", c.Groups})
	}
	return all
}

// verdict is everything in one sentence, and what there is to do.
type verdict struct {
	Level   string // ok, busy or person; the style knows them
	Summary string
	Reasons []string

	begins bool // something has not been looked at for the first time
	// recovers is a connection whose target is being compared; empty: none is.
	recovers string
}

// judge says in one sentence where everything stands.
func judge(s *status.Status) verdict {
	v := &verdict{}
	v.Reasons = append(v.Reasons, s.Errors...)
	for _, one := range s.Sources {
		v.source(one)
	}
	var backlog uint64
	retrying := 0
	for _, one := range s.Connections {
		v.connection(one)
		for _, r := range rows(one) {
			backlog, retrying = backlog+r.Backlog, retrying+r.Retrying
		}
	}
	switch {
	case len(v.Reasons) > 0:
		v.Level, v.Summary = "person", "Something waits for a person."
	case v.begins:
		v.Level, v.Summary = "busy", "The first read has not ended."
	case v.recovers != "":
		v.Level, v.Summary = "busy", fmt.Sprintf("The target of %s is compared with the directory, because links may be missing or old.", v.recovers)
	case backlog > 0 || retrying > 0:
		v.Level, v.Summary = "busy", fmt.Sprintf("Work is under way: %d changes wait, %d are tried again.", backlog, retrying)
	default:
		v.Level, v.Summary = "ok", "All that was found is applied."
	}
	return *v
}

func (v *verdict) add(format string, args ...any) {
	v.Reasons = append(v.Reasons, fmt.Sprintf(format, args...))
}

func (v *verdict) source(s status.Source) {
	switch {
	case s.Detector == "":
		v.add("Source %s: nobody watches it. Is a change-detector running?", s.Name)
	case s.Outage != nil:
		v.add("Source %s is not followed (%s) since %s.", s.Name, s.Outage.Reason, when(s.Outage.Since))
	case s.LastPass == nil:
		v.begins = true
	case s.Overdue:
		v.add("Source %s: it was last read whole at %s. Does the directory answer? See `rollcall check`.", s.Name, when(s.LastPass.At))
	}
	for _, w := range s.Warnings {
		v.add("Source %s: %s.", s.Name, w)
	}
	if s.Held > 0 {
		v.add("Source %s: %d removals are held; see `rollcall held`.", s.Name, s.Held)
	}
}

func (v *verdict) connection(c status.Connection) {
	if c.Recovery != nil {
		v.recovers = c.Name
	}
	for _, w := range c.Warnings {
		v.add("Connection %s: %s.", c.Name, w)
	}
	if c.Refused != "" {
		v.add("Connection %s: its configuration is refused: %s.", c.Name, c.Refused)
	} else if c.Generation == 0 {
		v.begins = true
	}
	if c.DryRun {
		v.add("Connection %s is a dry run: nothing is sent.", c.Name)
	}
	if c.Paused != nil {
		v.add("Connection %s is paused (%s) since %s.", c.Name, c.Paused.Reason, when(c.Paused.Since))
	}
	for _, r := range rows(c) {
		if r.Held > 0 {
			v.add("Connection %s: removals of %d %s are held; see `rollcall held`.", c.Name, r.Held, r.Kind)
		}
		if n := r.Parked + r.Blocked; n > 0 {
			v.add("Connection %s: %d %s cannot be applied; see `rollcall parked`.", c.Name, n, r.Kind)
		}
		if r.RefusedMembers > 0 {
			v.add("Connection %s: the target refuses %d members; see `rollcall parked`.", c.Name, r.RefusedMembers)
		}
		if r.Unapplied > 0 {
			v.add("Connection %s: the target did not apply %d attributes of %s; see `rollcall parked`.", c.Name, r.Unapplied, r.Kind)
		}
	}
	for _, d := range c.Drift {
		if slices.ContainsFunc(d.Findings, func(f worker.Finding) bool {
			return f.What != worker.DriftUnknown && f.What != worker.DriftUnapplied && !f.Repaired
		}) {
			v.add("Connection %s: %s were not as they were left (%s); see `rollcall drift %s`.", c.Name, d.Kind, d.InWords(), c.Name)
		}
	}
}
