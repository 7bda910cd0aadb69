mod formats;
mod hostile;
mod importing;
