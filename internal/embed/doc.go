// Package embed turns texts into vectors whose cosines tell how near the texts
// are in meaning: by a table in the binary, by a model in a folder, or by a
// server. Nothing is ever downloaded.
//
// It does not know what the texts are, where vectors are kept, or how they are
// compared.
package embed
