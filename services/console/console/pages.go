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
	page := template.Must(template.New("status.html").Funcs(template.FuncMap{"when": when, "rows": rows}).ParseFS(pages, "pages/status.html"))
	style, err := fs.Sub(pages, "pages")
	if err != nil {
		panic(err) // it is in the program
	}
	mux := http.NewServeMux()
	mux.Handle("GET /console.css", http.FileServerFS(style))
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) { showPage(w, r, page, latest, log) })
	mux.HandleFunc("GET "+statusPath, func(w http.ResponseWriter, r *http.Request) { showJSON(w, r, latest, log) })
	return mux
}

// showPage answers with a page; where nothing can be read, it says so and tries again.
func showPage(w http.ResponseWriter, r *http.Request, t *template.Template, latest *reader, log *slog.Logger) {
	p := page{}
	code := http.StatusOK
	var err error
	if p.reading, err = latest.get(r.Context()); err != nil {
		log.WarnContext(r.Context(), "the console cannot read the status", "error", err)
		p.At, p.Error, code = time.Now(), err.Error(), http.StatusServiceUnavailable
	} else {
		p.verdict = judge(p.Status)
	}
	var body bytes.Buffer
	if err := t.Execute(&body, p); err != nil {
		log.ErrorContext(r.Context(), "the console cannot show the status", "error", err)
		http.Error(w, "the page cannot be made; the log of the console says why", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(code)
	_, _ = body.WriteTo(w) // who goes away needs no answer
}

// showJSON answers with what `rollcall status -o json` prints.
func showJSON(w http.ResponseWriter, r *http.Request, latest *reader, log *slog.Logger) {
	var answer any
	code := http.StatusOK
	reading, err := latest.get(r.Context())
	if answer = reading.Status; err != nil {
		log.WarnContext(r.Context(), "the console cannot read the status", "error", err)
		answer, code = map[string]string{"error": err.Error()}, http.StatusServiceUnavailable
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	_ = encoder.Encode(answer) // who goes away needs no answer
}

// when is a time for people, wherever they are.
func when(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05") + " UTC" }

// row is one kind of a connection, or why it cannot be counted.
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
}

// judge says in one sentence where everything stands.
func judge(s *status.Status) verdict {
	v := &verdict{}
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
	case backlog > 0 || retrying > 0:
		v.Level, v.Summary = "busy", fmt.Sprintf("Work is under way: %d changes wait, %d are tried again.", backlog, retrying)
	default:
		v.Level, v.Summary = "ok", "Everything is applied."
	}
	return *v
}

func (v *verdict) add(format string, args ...any) {
	v.Reasons = append(v.Reasons, fmt.Sprintf(format, args...))
}

func (v *verdict) source(s status.Source) {
	if s.Detector == "" {
		v.add("Source %s: nobody watches it. Is a change-detector running?", s.Name)
	}
	if s.Held > 0 {
		v.add("Source %s: %d removals are held; see `rollcall held`.", s.Name, s.Held)
	}
}

func (v *verdict) connection(c status.Connection) {
	if c.Refused != "" {
		v.add("Connection %s: its configuration is refused: %s.", c.Name, c.Refused)
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
	}
}
