module github.com/rollcall-scim/rollcall/scripts/tools

go 1.26.0
