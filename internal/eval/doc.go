// Package eval measures retrieval: it reads datasets of documents and questions in
// several public formats into one neutral form, and computes recall, mean reciprocal
// rank and nDCG from what a search found for each question. It knows neither episodes
// nor Stores nor databases: whoever uses it stores the documents, asks the questions
// and says which of the documents, or of their parts, were found in which order.
package eval
