// Package project tells which project a folder belongs to, by a name that is the same in all
// clones and worktrees of a repository and on all machines: from the git remote, or else the
// root commit, or else the folder's path. Users give other names in a file of aliases.
//
// It reads git's files itself, and runs git only for the root commit of a repository without a
// remote, once. It knows nothing of memories.
package project
