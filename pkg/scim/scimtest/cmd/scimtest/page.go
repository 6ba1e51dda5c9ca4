package main

import (
	_ "embed"
	"encoding/json"
	"html/template"
	"net/http"
	"slices"
	"strconv"

	"github.com/rollcall-scim/rollcall/pkg/scim"
	"github.com/rollcall-scim/rollcall/pkg/scim/scimtest"
)

const (
	shownRows     = 200
	shownRequests = 50
)

//go:embed page.html
var pageSource string

// page shows what the server holds; everything else goes on to the server.
type page struct {
	server   *scimtest.Server
	template *template.Template
	mux      *http.ServeMux
}

func newPage(server *scimtest.Server) *page {
	p := &page{server: server, template: template.Must(template.New("page").Parse(pageSource)), mux: http.NewServeMux()}
	p.mux.HandleFunc("GET /{$}", p.show)
	p.mux.HandleFunc("GET /state", p.state)
	p.mux.HandleFunc("GET /counts", p.counts)
	p.mux.HandleFunc("GET /requests", p.requests)
	p.mux.Handle("/", server)
	return p
}

// ServeHTTP makes page an http.Handler.
func (p *page) ServeHTTP(w http.ResponseWriter, r *http.Request) { p.mux.ServeHTTP(w, r) }

func (p *page) show(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'")
	if err := p.template.Execute(w, map[string]any{"URL": p.server.URL()}); err != nil {
		http.Error(w, "show the page", http.StatusInternalServerError)
	}
}

// state is what the page asks for again and again.
func (p *page) state(w http.ResponseWriter, _ *http.Request) {
	requests := p.server.Requests()
	requests = slices.Clone(requests[max(0, len(requests)-shownRequests):])
	slices.Reverse(requests)
	writeJSON(w, map[string]any{
		"users":       p.server.Recent(scim.KindUser, shownRows),
		"user_count":  p.server.Count(scim.KindUser),
		"groups":      p.server.Recent(scim.KindGroup, shownRows),
		"group_count": p.server.Count(scim.KindGroup),
		"requests":    requests,
	})
}

// counts are for who asks often while something is measured.
func (p *page) counts(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, map[string]int{
		"users": p.server.Count(scim.KindUser), "groups": p.server.Count(scim.KindGroup), "requests": p.server.Received(),
	})
}

// requests are the requests behind a sequence number, oldest first.
func (p *page) requests(w http.ResponseWriter, r *http.Request) {
	after := 0
	if text := r.URL.Query().Get("after"); text != "" {
		var err error
		if after, err = strconv.Atoi(text); err != nil {
			http.Error(w, "after must be a number", http.StatusBadRequest)
			return
		}
	}
	requests := p.server.RequestsAfter(after)
	if requests == nil {
		requests = []scimtest.Request{}
	}
	writeJSON(w, requests)
}

func writeJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	if err := json.NewEncoder(w).Encode(v); err != nil {
		http.Error(w, "write the answer", http.StatusInternalServerError)
	}
}
