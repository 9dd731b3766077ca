package kernel_test

import (
	"bytes"
	"cmp"
	"errors"
	"flag"
	"fmt"
	"go/ast"
	"go/build"
	"go/doc"
	"go/parser"
	"go/token"
	"go/types"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "write EXAMPLES.md anew")

// withoutExample are the exported names that need none.
var withoutExample = map[string]string{
	"ArgumentError.Error":  "fmt calls it in [ExampleArgumentError](example_test.go)",
	"ArgumentError.Unwrap": "errors.Is calls it in [ExampleArgumentError](example_test.go)",
	"Format.String":        "fmt calls it in [ExampleFormat](example_cache_test.go)",
}

// TestEveryNameHasAnExample: every exported name of the package has an example of its own, or one that uses it,
// and EXAMPLES.md lists them.
func TestEveryNameHasAnExample(t *testing.T) {
	names, examples := exportedNames(t)
	var missing []string
	var page bytes.Buffer
	page.WriteString(`# Examples of every exported name

Examples are code that ` + "`go test`" + ` runs. This page is written by ` + "`go test ./kernel -run TestEveryNameHasAnExample -update`" + `, and the same
test fails where it is out of date or a name has no example.

| name | example |
|---|---|
`)
	for _, name := range names {
		example, reason := examples[name], withoutExample[name]
		switch {
		case example == "" && reason == "":
			missing = append(missing, name)
		case example != "" && reason != "":
			t.Errorf("%s has an example now: it is no exception any more", name)
		}
		fmt.Fprintf(&page, "| `%s` | %s |\n", name, example+reason)
	}
	require.Empty(t, missing, "exported names without an example")
	for name := range withoutExample {
		require.Contains(t, names, name, "an exception that does not exist")
	}

	const path = "EXAMPLES.md"
	if *update {
		require.NoError(t, os.WriteFile(path, page.Bytes(), 0o644))
	}
	was, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, page.String(), string(was), "%s is out of date: run this test with -update", path)
}

// exportedNames returns the exported names of the package, methods as Type.Method, in order, and for each a link to
// the example that is about it or, if there is none, to one that uses it.
func exportedNames(t *testing.T) (names []string, examples map[string]string) {
	set, package_, tests := token.NewFileSet(), []*ast.File{}, []*ast.File{}
	entries, err := os.ReadDir(".")
	require.NoError(t, err)
	for _, e := range entries {
		match, err := build.Default.MatchFile(".", e.Name())
		require.NoError(t, err)
		if !match || !strings.HasSuffix(e.Name(), ".go") {
			continue
		}
		f, err := parser.ParseFile(set, e.Name(), nil, parser.ParseComments)
		require.NoError(t, err)
		switch {
		case !strings.HasSuffix(e.Name(), "_test.go"):
			package_ = append(package_, f)
		case strings.HasPrefix(e.Name(), "example_"):
			tests = append(tests, f)
		}
	}

	// Types are checked without what either imports from elsewhere: the names of this package are all that matters.
	const path = "github.com/quern-go/quern/kernel"
	config := types.Config{IgnoreFuncBodies: true, Importer: only{}, Error: func(error) {}}
	kernel, _ := config.Check(path, set, package_, nil)
	config.IgnoreFuncBodies, config.Importer = false, only{kernel}
	info := &types.Info{Uses: map[*ast.Ident]types.Object{}, Defs: map[*ast.Ident]types.Object{}}
	_, _ = config.Check(path+"_test", set, tests, info)

	for _, name := range kernel.Scope().Names() {
		object := kernel.Scope().Lookup(name)
		if !object.Exported() {
			continue
		}
		names = append(names, name)
		if named, ok := object.Type().(*types.Named); ok && object.Pos() == named.Obj().Pos() {
			for i := range named.NumMethods() {
				if m := named.Method(i); m.Exported() {
					names = append(names, name+"."+m.Name())
				}
			}
		}
	}

	// How a function of the example files comes by each name that it uses, the types of its variables included:
	// by itself, or by a function of those files that it calls.
	functions := map[types.Object]*ast.FuncDecl{}
	for _, f := range tests {
		for _, d := range f.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok {
				functions[info.Defs[fn.Name]] = fn
			}
		}
	}
	var uses func(fn *ast.FuncDecl, found map[string]int, how int)
	uses = func(fn *ast.FuncDecl, found map[string]int, how int) {
		use := func(name string) {
			if was, ok := found[name]; !ok || how < was {
				found[name] = how
			}
		}
		ast.Inspect(fn, func(n ast.Node) bool {
			id, ok := n.(*ast.Ident)
			if !ok {
				return true
			}
			object := cmp.Or(info.Uses[id], info.Defs[id])
			if object == nil {
				return true
			}
			if v, ok := object.(*types.Var); ok {
				if name := typeName(v.Type()); name != "" && kernel.Scope().Lookup(name) != nil && token.IsExported(name) {
					use(name)
				}
				if v.IsField() {
					return true // which may be called as something else is
				}
			}
			if helper := functions[object]; helper != nil && helper != fn {
				uses(helper, found, byHelper)
			}
			if object.Pkg() != kernel || !object.Exported() {
				return true
			}
			name := object.Name()
			if f, ok := object.(*types.Func); ok {
				if r := f.Signature().Recv(); r != nil {
					name = typeName(r.Type()) + "." + name
				}
			}
			use(name)
			return true
		})
	}
	examples = map[string]string{}
	best := map[string]int{}
	for _, f := range tests {
		file := set.File(f.Pos()).Name()
		for _, e := range doc.Examples(f) {
			require.True(t, e.Output != "" || e.EmptyOutput, "Example%s is never run: it has no output", e.Name)
			found := map[string]int{}
			for object, fn := range functions {
				if object.Name() == "Example"+e.Name {
					uses(fn, found, byItself)
				}
			}
			for name, how := range found {
				type_, _, method := strings.Cut(name, ".")
				switch about := strings.ReplaceAll(name, ".", "_"); {
				case e.Name == about:
					how = ofTheName
				case strings.HasPrefix(e.Name, about+"_"):
					how = variantOfTheName
				case method && (e.Name == type_ || strings.HasPrefix(e.Name, type_+"_")):
					how = ofTheType
				}
				if was, ok := best[name]; !ok || how < was {
					best[name] = how
					examples[name] = fmt.Sprintf("[Example%s](%s)", strings.ReplaceAll(e.Name, "_", "\\_"), file)
				}
			}
		}
	}
	return names, examples
}

// What an example has to do with a name that it uses, the best first.
const (
	ofTheName = iota
	variantOfTheName
	ofTheType
	byItself
	byHelper
)

// typeName is the name of a type, or of what it points to, and empty if that has none.
func typeName(t types.Type) string {
	if p, ok := t.(*types.Pointer); ok {
		t = p.Elem()
	}
	if named, ok := t.(*types.Named); ok {
		return named.Obj().Name()
	}
	return ""
}

// only imports nothing but one package.
type only struct{ p *types.Package }

func (o only) Import(path string) (*types.Package, error) {
	if path == "unsafe" {
		return types.Unsafe, nil
	}
	if o.p != nil && path == o.p.Path() {
		return o.p, nil
	}
	return nil, errors.New("not needed")
}
