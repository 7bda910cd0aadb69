mod formats;
mod hostile;
mod hosts;
mod importing;
