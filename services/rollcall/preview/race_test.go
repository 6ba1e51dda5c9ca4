//go:build race

package preview_test

// randomWorlds is how many worlds are tried with the race detector, which makes each of
// them four times as slow; `make worlds` tries 200 without it.
const randomWorlds = 30
